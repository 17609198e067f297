import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synergen.cli import main
from synergen.errors import UserError
from synergen.text import Encoder

E5 = Encoder("intfloat/e5-base-v2", item_instruction="passage: ", query_instruction="query: ", dimensions=128)


def test_a_name_alone_is_the_encoder_with_its_defaults() -> None:
    assert Encoder.parse("minilm") == Encoder() == Encoder("minilm", "mean", "", "", 256, None)
    assert Encoder.parse("minilm").identity == "minilm"  # what records have always said


def test_a_text_a_mapping_and_the_encoder_itself_parse_alike() -> None:
    text = 'intfloat/e5-base-v2 {"item_instruction": "passage: ", "query_instruction": "query: ", "dimensions": 128}'
    mapping = {"name": "intfloat/e5-base-v2", **json.loads(text[text.index("{") :])}
    assert Encoder.parse(text) == Encoder.parse(mapping) == Encoder.parse(E5) == E5
    assert E5.identity == text


_texts = st.text(st.characters(exclude_categories=["Cs"]))
_names = _texts.map(str.strip).filter(lambda name: name and " {" not in name)


@given(
    st.builds(
        Encoder,
        _names,
        st.sampled_from(["mean", "cls", "last"]),
        _texts,
        _texts,
        st.integers(1, 9999),
        st.none() | st.integers(1, 9999),
    )
)
def test_every_identity_parses_to_its_encoder(encoder: Encoder) -> None:
    assert Encoder.parse(encoder.identity) == encoder


def test_an_option_at_its_default_is_no_part_of_the_identity() -> None:
    assert Encoder.parse('a/b {"pooling": "mean", "max_tokens": 256, "dimensions": null}').identity == "a/b"


def test_each_kind_of_text_gets_its_instruction_and_blank_ones_none() -> None:
    assert E5.instructed(["soap", "", " "], "item") == ["passage: soap", "", " "]
    assert E5.instructed(["soap", ""], "query") == ["query: soap", ""]


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ('minilm {"poling": "cls"}', "unknown option 'poling'.*did you mean 'pooling'"),
        ('minilm {"pooling": "max"}', "unknown pooling 'max'.*known: cls, last, mean"),
        ("minilm {pooling: cls}", r"not JSON.*write for instance 'minilm \{"),
        ('minilm {"dimensions": 0}', "dimensions is 0; it must be a whole number, at least 1"),
        ('minilm {"dimensions": true}', "dimensions is True"),
        ('minilm {"max_tokens": "many"}', "max_tokens is 'many'"),
        ('minilm {"query_instruction": 3}', "query_instruction is 3; it must be a text"),
        ("  ", "the name of a model, or a folder"),
        (["minilm"], "neither a name nor options"),
        (None, "neither a name nor options"),
    ],
)
def test_a_mistake_is_named_with_what_would_work(wish: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Encoder.parse(wish)


def test_the_command_line_takes_options_that_yaml_would_not(capsys: pytest.CaptureFixture[str]) -> None:
    option = 'protocol.encoder=minilm {"query_instruction": "query: ", "poling": "cls"}'  # ": " is a mapping in YAML
    assert main(["train", "--model", "SynerGen", "--set", option]) == 2
    shown = capsys.readouterr()
    assert "did you mean 'pooling'" in " ".join((shown.out + shown.err).split())
