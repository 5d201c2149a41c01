"""A table in, its scores out: one a row, whatever the table's size and the population asked for."""

import json
from importlib import metadata

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import turnout
from tests.tiny_router import EASY, HARD, write_router
from turnout.errors import RecordError, SettingsError
from turnout.evaluation.batch import score_file
from turnout.routing import Priors


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_scores_are_one_a_row_in_the_files_order(tmp_path, suffix):
    texts = [f"{(HARD + EASY)[n % 8]} {'x ' * (n % 5)}\nline two" for n in range(50)]
    file = tmp_path / f"texts{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table({"text": texts}), file)
    elif suffix == ".csv":
        lines = [f'{n},"{text}"' for n, text in enumerate(texts)]
        file.write_text("n,text\n" + "\n".join(lines))
    else:
        file.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    router = write_router(tmp_path / "router")
    report = score_file(router, file, tmp_path / "scores.parquet", text_column="text")
    scores = pq.read_table(tmp_path / "scores.parquet")["p_reasoning"].to_numpy()
    assert (report.rows, len(scores)) == (50, 50)
    # Margins of the tiny router: −1, +3 for a hard word, −1 for an easy one.
    np.testing.assert_allclose(
        scores, [1 / (1 + np.exp(-2 if n % 8 < 4 else 2)) for n in range(50)], atol=1e-6
    )


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_columns_to_keep_stand_beside_the_scores(tmp_path, suffix):
    file, router = tmp_path / f"t{suffix}", write_router(tmp_path / "router")
    rows = [{"id": n, "text": "hello", "task": "code"} for n in range(30)]
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    else:
        file.write_text("\n".join(json.dumps(row) for row in rows))
    out = tmp_path / "s.parquet"
    score_file(router, file, out, text_column="text", keep=["id", "task"])
    table = pq.read_table(out)
    assert table.column_names == ["id", "task", "p_reasoning"]
    assert table["id"].to_pylist() == list(range(30))
    with pytest.raises(RecordError, match="nr"):
        score_file(router, file, out, text_column="text", keep=["nr"])
    with pytest.raises(SettingsError, match="--keep: found p_reasoning"):
        score_file(router, file, out, text_column="text", keep=["p_reasoning"])


def test_a_row_without_text_has_no_score(tmp_path):
    pq.write_table(pa.table({"text": ["hello", None]}), tmp_path / "t.parquet")
    router = write_router(tmp_path / "router")
    report = score_file(router, tmp_path / "t.parquet", tmp_path / "s.parquet", text_column="text")
    assert report.without_text == 1
    assert pq.read_table(tmp_path / "s.parquet")["p_reasoning"].to_pylist()[1] is None


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_a_table_in_another_encoding_is_refused(tmp_path, name):
    text = "text\ncafé\n" if name == "t.csv" else '{"text": "café"}\n'
    (tmp_path / name).write_bytes(text.encode("cp1252"))
    router = write_router(tmp_path / "router")
    with pytest.raises(RecordError, match="expected a complete file in UTF-8"):
        score_file(router, tmp_path / name, tmp_path / "s.parquet", text_column="text")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('n,text\n1,hello\n2,"half\n3,lost\n', ":3: not CSV"),
        ("n,text\n1,hello\n2\n", ":3: 1 fields; expected 2"),
    ],
)
def test_half_a_table_gets_no_scores(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    router = write_router(tmp_path / "router")
    with pytest.raises(RecordError, match=message):
        score_file(router, tmp_path / "t.csv", tmp_path / "s.parquet", text_column="text")
    assert not (tmp_path / "s.parquet").exists()


def test_an_unknown_text_column_is_refused_with_what_there_is(tmp_path):
    pq.write_table(pa.table({"prompt": ["hello"]}), tmp_path / "t.parquet")
    with pytest.raises(RecordError, match="no column text; found prompt"):
        score_file(
            write_router(tmp_path / "r"), tmp_path / "t.parquet", tmp_path / "s", text_column="text"
        )


def scores_of(path):
    return pq.read_table(path)["p_reasoning"].to_pylist()


def test_scores_are_for_the_population_asked_for_and_are_those_of_single_decisions(tmp_path):
    router = write_router(tmp_path / "router", priors=Priors(0.5, 0.2))
    texts = [f"{word} it" for word in (*HARD, *EASY)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "t.parquet")
    for population in ("log", "balanced"):
        out = tmp_path / f"{population}.parquet"
        report = score_file(
            router, tmp_path / "t.parquet", out, text_column="text", population=population
        )
        loaded = turnout.load(router, population)
        assert scores_of(out) == [loaded.decide(text).p_reasoning for text in texts]
        assert report.population == population
        # Half of the rows have odds of e² and half of e⁻² for equal classes.
        assert report.reasoning_share.value == pytest.approx(0.5, abs=1e-3)
    by_default = score_file(router, tmp_path / "t.parquet", tmp_path / "s", text_column="text")
    assert scores_of(tmp_path / "s") == scores_of(tmp_path / "log.parquet")
    again = score_file(router, tmp_path / "t.parquet", tmp_path / "s", text_column="text")
    assert (by_default.fresh, again.fresh) == (True, False)
    assert again.reasoning_share == by_default.reasoning_share


def test_what_was_made_names_the_libraries_that_change_its_digits(tmp_path):
    pq.write_table(pa.table({"text": ["hello"]}), tmp_path / "t.parquet")
    out = tmp_path / "s.parquet"
    score_file(write_router(tmp_path / "r"), tmp_path / "t.parquet", out, text_column="text")
    manifest = json.loads((tmp_path / "s.parquet.manifest.json").read_text())
    assert manifest["libraries"] == {
        name: metadata.version(name) for name in ("numpy", "onnxruntime", "tokenizers")
    }
