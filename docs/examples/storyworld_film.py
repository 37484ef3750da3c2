"""lvbench: a film of which everything is known."""

import storyworld

story = storyworld.render(7, 4)
print("frames:", tuple(story.frames.shape))
for index, caption in enumerate(story.captions):
    print(f"chunk {index}: {caption}")
assert len(story.captions) == 4
