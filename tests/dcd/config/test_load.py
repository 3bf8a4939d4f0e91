"""Every kind of config is read by one loader: lines, near words, repeated keys, hostile YAML."""

from collections.abc import Callable

import pytest

from dcd.config import (
    FrozenModel,
    load_comparison,
    load_config,
    load_embed_config,
    load_index_config,
)
from dcd.errors import ConfigError
from tests.dcd.config.least_run import RUN

PART = "store: runs\npool: {images: pool/*.tar}\n"
GRID = "base: run.yaml\nencoders:\n  own: {model: test_resnet}\n"

Load = Callable[..., FrozenModel]
KINDS = [
    pytest.param(load_config, RUN, id="run"),
    pytest.param(load_comparison, GRID, id="comparison"),
    pytest.param(load_embed_config, PART, id="embed"),
    pytest.param(load_index_config, PART, id="index"),
]


def faults(tmp_path, load: Load, text: str) -> list[str]:
    (tmp_path / "run.yaml").write_text(RUN)
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load(path)
    return refused.value.problems


@pytest.mark.parametrize(("load", "good"), KINDS)
def test_a_key_that_stands_twice_is_told_with_both_lines(tmp_path, load: Load, good: str):
    key = good.split(":")[0]
    (problem,) = faults(tmp_path, load, f"{good}{key}: other\n")
    line = good.count("\n") + 1
    assert f"config.yaml:{line}: {key}: stands already on line 1" in problem


@pytest.mark.parametrize(
    ("load", "text", "words"),
    [
        (load_config, RUN + "selection:\n  kk: 3\n", "config.yaml:8: selection.kk: unknown key"),
        (load_comparison, GRID + "strategys: {}\n", "config.yaml:4: strategys: unknown key; did"),
        (load_comparison, GRID + "strategies:\n  one:\n    diversty: true\n", "config.yaml:6: "),
        (load_comparison, GRID + "k: [1,\n  zero]\n", "config.yaml:5: k[1]: expected a whole"),
        (load_comparison, GRID + "baselines: [randon]\n", "did you mean 'random'"),
        (load_comparison, f"base:\n{RUN}".replace("\n", "\n  ") + "seeds: x\n", ":8: base.seeds: "),
        (load_comparison, "encoders: {own: {model: pixels}}\n", "base: is missing; add `base:`"),
        (load_embed_config, PART + "encoder: {precison: bf16}\n", "config.yaml:3: encoder.prec"),
        (load_config, RUN + "selection:\n  k: yes\n", "8: selection.k: expected a whole number"),
        (load_config, RUN + "selection: {min_agreement: on}\n", "min_agreement: expected a number"),
        (load_config, RUN + "selection: {k: 1e30, k_candidates: [no]}\n", "k_candidates[0]: exp"),
        (load_config, RUN + f"selection: {{k: {2**60}}}\n", "found 'more than 2^53'"),
        (load_config, RUN + "seeds: [4294967296]\n", "seeds[0]: expected a number below"),
        (load_config, RUN + "selection: {k: 010}\n", "selection.k: YAML reads 010 as 8; write a"),
        (load_config, RUN + "selection: {k: 1:30}\n", "selection.k: YAML reads 1:30 as 90; write"),
        (load_config, RUN + "compare: {baselines: [none, none]}\n", "repeats a baseline"),
        (load_config, RUN + "selection: {no: 5}\n", ":7: selection: expected a key that is text"),
        (load_config, RUN + "selection: {k: !ENV K}\n", "tags such as !name are not read"),
        (
            load_config,
            RUN + "selection: {objective: Both}\n",
            "selection.objective: expected 'failures_first', 'both' or 'fixed', or a number; found "
            "'Both'; did you mean 'both'?",
        ),
        (load_embed_config, "store: runs\npool: {images: x, label_column: ''}\n", "at least 1 ch"),
        (load_embed_config, "store: 2026-01-31\npool: {images: x}\n", "found 2026-01-31"),
        (load_embed_config, "store:runs\npool:x\n", "found text; write lines of `key: value`"),
    ],
)
def test_a_fault_is_told_with_its_line(tmp_path, load: Load, text: str, words: str):
    assert words in "\n".join(faults(tmp_path, load, text))


@pytest.mark.parametrize(("load", "good"), KINDS)
@pytest.mark.parametrize("text", ["- a list", "a: [", "just text", "a: " + "[" * 5000])
def test_what_is_no_mapping_is_refused(tmp_path, load: Load, good: str, text: str):
    (problem,) = faults(tmp_path, load, text)
    assert "config.yaml" in problem


def test_the_fault_of_a_base_config_names_the_base_config(tmp_path):
    (tmp_path / "base.yaml").write_text(RUN + "seeds: []\n")
    path = tmp_path / "grid.yaml"
    path.write_text(GRID.replace("run.yaml", "base.yaml"))
    with pytest.raises(ConfigError, match=r"base\.yaml:7: seeds"):
        load_comparison(path)


def aliased(first: str, *, depth: int = 64, form: str = "[*a{}, *a{}]") -> str:
    """Lines of which each holds the one before twice."""
    lines = [f"a{i}: &a{i} {form.replace('{}', str(i - 1))}" for i in range(1, depth)]
    return "\n".join([f"a0: &a0 {first}", *lines]) + "\n"


@pytest.mark.parametrize(("load", "good"), KINDS)
@pytest.mark.parametrize(
    "bomb",
    [
        aliased("[x, x]"),
        aliased("{x: x}", form="{k: *a{}, l: *a{}}"),
        aliased("{x: x}", form="{<<: [*a{}, *a{}], k{}: x}"),
        aliased("{x: x}", form="{<<: *a{}, k: *a{}}"),
    ],
)
def test_aliases_that_multiply_are_refused(tmp_path, load: Load, good: str, bomb: str):
    """2^64 items, spelled out."""
    (problem,) = faults(tmp_path, load, good + bomb)
    assert "holds more than 100,000 values" in problem


@pytest.mark.parametrize("text", ["x: &x [*x]", "x: &x {k: [*x]}", "x: &x {<<: *x, k: 1}"])
def test_what_holds_itself_is_refused(tmp_path, text: str):
    (problem,) = faults(tmp_path, load_config, f"{RUN}{text}\n")
    assert f"config.yaml:{RUN.count(chr(10)) + 1}: holds itself" in problem


def test_a_chain_of_a_self_is_none(tmp_path):
    """The same section twice below one another's neighbour is no cycle."""
    text = RUN.replace("test: {", "test: &own {").replace("{images: errors}", "*own")
    path = tmp_path / "config.yaml"
    path.write_text(text + "debug_val: *own\n")
    assert load_config(path).debug_val == load_config(path).test


@pytest.mark.parametrize(
    "value",
    [
        *("9" * 5000, "0b" + "1" * 9, "2026-99-99", "!!int x", "!!float x", "!!bool x"),
        *("!!timestamp x", "!!binary x", "1:2:3:x", "!!set [a]", "!!omap {a: b}", "!!int ''"),
        *("!!pairs x", ":".join(["59"] * 9000), "(" * 20_000),
    ],
)
def test_values_that_are_none_are_told(tmp_path, value: str):
    problems = faults(tmp_path, load_config, f"{RUN}x: {value}\n")
    assert all("config.yaml" in problem for problem in problems)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    (problem,) = faults(tmp_path, load_config, RUN + "x: " + "y" * 2**20)
    assert "more than 1,048,576 bytes" in problem


def test_an_anchor_may_stand_for_a_section(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(RUN.replace("test: {", "test: &own {").replace("{images: errors}", "*own"))
    assert load_config(path).error_sample == load_config(path).test


@pytest.mark.parametrize("seeds", ["[-1]", "[yes, 1]"])
def test_a_fault_of_an_item_is_no_fault_of_its_list(tmp_path, seeds: str):
    (problem,) = faults(tmp_path, load_config, f"{RUN}seeds: {seeds}\n")
    assert "seeds[0]: expected" in problem


def test_numbers_as_people_write_them_are_read(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(RUN + "selection: {k: 10, min_agreement: 0.5}\nseeds: [0, 4294967295]\n")
    config = load_config(path)
    assert (config.selection.k, config.seeds) == (10, (0, 4294967295))
