"""The picture and the table of a trace say what the trace says."""

from xml.etree import ElementTree

import pytest

from bdiff.output.trace import draw_trace, trace_table, write_trace

SVG = "{http://www.w3.org/2000/svg}"


def shown(chunk, kind, similarity=0.5):
    return {"chunk": chunk, "kind": kind, "similarity": similarity, "share_of_tokens": 0.97}


def trace(num_chunks):
    chunks = [
        {
            "index": index,
            "prompt": f"a <fox> & chunk {index} | more",
            "frames": 20 if index else 17,
            "shown": [shown(c, "recent" if c >= index - 2 else "recalled", c / 100) for c in range(index)][-4:],
            "memory_bytes": 1_000_000 * index,
        }
        for index in range(num_chunks)
    ]
    return {"policy": "SemanticSparse(top_l=2)", "chunks": chunks}


@pytest.mark.parametrize("num_chunks", [1, 7, 100])
def test_every_recall_is_one_mark_of_the_picture(num_chunks):
    made = trace(num_chunks)
    root = ElementTree.fromstring(draw_trace(made, ["0:00"] * num_chunks))
    titles = [title.text for title in root.iter(f"{SVG}title") if "is shown" in title.text]
    assert len(titles) == sum(len(chunk["shown"]) for chunk in made["chunks"])
    width, height = float(root.get("width")), float(root.get("height"))
    for box in root.iter(f"{SVG}rect"):
        x, y, w, h = (float(box.get(name)) for name in ("x", "y", "width", "height"))
        assert 0 <= x <= x + w <= width
        assert 0 <= y <= y + h <= height


def test_marks_name_kind_similarity_and_tokens():
    root = ElementTree.fromstring(draw_trace(trace(5), ["0:00"] * 5))
    titles = {title.text for title in root.iter(f"{SVG}title")}
    assert "chunk 4 is shown chunk 1: recalled by meaning, similarity 0.01, 97% of its tokens" in titles
    assert "chunk 4 is shown chunk 3: recent, similarity 0.03, 97% of its tokens" in titles


def test_the_table_has_a_row_a_chunk_with_its_time():
    rows = trace_table(trace(4), ["0:00.0", "0:02.1", "0:04.6", "0:07.1"]).splitlines()[-4:]
    assert rows[3] == (
        "| 3 | 0:07.1 | a <fox> & chunk 3 / more | 0 (0.00, 97%) | 1 (0.01, 97%), 2 (0.02, 97%) | 3.0 MB |"
    )


def test_the_table_has_a_column_of_the_first_chunks_where_they_are_shown():
    made = trace(4)
    made["chunks"][3]["shown"][0]["kind"] = "sink"
    lines = trace_table(made, ["0:00.0", "0:02.1", "0:04.6", "0:07.1"]).splitlines()
    assert "| chunk | time | prompt | first | recalled | recent | memory held |" in lines
    assert lines[-1].endswith("| 0 (0.00, 97%) | | 1 (0.01, 97%), 2 (0.02, 97%) | 3.0 MB |")


def test_a_prompt_of_several_lines_stays_one_row_of_the_table():
    made = trace(2)
    made["chunks"][1]["prompt"] = "a fox\n  at sea\r\nagain"
    lines = trace_table(made, ["0:00.0", "0:02.1"]).splitlines()
    assert [line.split(" | ")[2] for line in lines[-2:]] == ["a <fox> & chunk 0 / more", "a fox at sea again"]


def test_a_policy_without_similarity_is_drawn(tmp_path):
    made = trace(3)
    for chunk in made["chunks"]:
        chunk["shown"] = [other | {"similarity": None, "kind": "sink"} for other in chunk["shown"]]
    write_trace(made, tmp_path, fps=8)
    assert {path.name for path in tmp_path.iterdir()} == {"trace.svg", "trace.md"}
    assert "| 2 | 0:04.6 |" in (tmp_path / "trace.md").read_text()
    assert "first chunks" in (tmp_path / "trace.svg").read_text()
