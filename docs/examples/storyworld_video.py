"""storyworld: a rendered video, its captions, and what is known about it."""

import storyworld

story = storyworld.render(7, 4)
print("frames:", tuple(story.frames.shape))
for index, caption in enumerate(story.captions):
    place = story.truth.places[story.truth.place[index]]
    print(f"chunk {index} ({place}): {caption}")

evaluation = storyworld.evaluate(story.frames, story)
assert evaluation.visible_share == evaluation.direction_share == 1.0
