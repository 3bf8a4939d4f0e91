"""Configs are strict, and a fault names its file, line, place and mend."""

from pathlib import Path

import pytest

from dcd.config import (
    DataConfig,
    EmbedConfig,
    PoolConfig,
    PoolStageConfig,
    RunConfig,
    SelectionConfig,
    TrainingConfig,
    load_config,
)
from dcd.errors import ConfigError
from tests.dcd.config.least_run import RUN


def faults(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    return refused.value.problems


def test_the_least_config_loads_with_defaults(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(RUN)
    config = load_config(path)
    assert config.seeds == (0,)
    assert config.encoder.model == "tf_efficientnet_lite0"
    assert config.training.mode == "head"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("selection: {kk: 3}", ["selection.kk", ":7"]),
        ("selection: {k: zero}", ["selection.k"]),
        ("encoder: {precison: bf16}", ["encoder.precison", "precision"]),
        ("training: {mode: heads}", ["training.mode", "head"]),
        ("training: {patience: 2}", ["patience", "val_share"]),
        ("training: {gce_q: 0.5}", ["gce_q", "loss: gce"]),
        ("training: {loss: gce, gce_q: 1.5}", ["gce_q", "1.5"]),
        ("training: {loss: mae}", ["training.loss", "gce"]),
        ("training: {soft_label_share: 0.2}", ["soft_label_share", "soft_labels"]),
        ("training: {drop_high_loss: 1}", ["drop_high_loss"]),
        ("training: {mode: full, epochs: 1, drop_high_loss: 0.2}", ["drop_high_loss", "epochs"]),
        ("training: {mode: full, pool_stage: {}}", ["pool_stage", "val_share above 0"]),
        ("training: {val_share: 0.1, pool_stage: {}}", ["pool_stage", "mode: full"]),
        ("training: {mode: full, val_share: 0.1, pool_stage: {}}", ["pool_stage", "debug_val"]),
        (
            "training: {mode: full, val_share: 0.1, pool_stage: {}}\n"
            "selection: {general_images: 0}",
            ["pool_stage", "selection.general_images", "give some"],
        ),
        ("seeds: [0, 0]", ["seeds", "repeats"]),
        ("seeds: []", ["seeds"]),
        ("seeds: [-1]", ["seeds"]),
        ("runner: {kind: thread, address: 'x'}", ["address"]),
        ("compare: {selections: {random: {}}}", ["random"]),
        ("errorsample: {images: x}", ["errorsample", "error_sample"]),
    ],
)
def test_a_fault_names_its_place_and_the_mend(tmp_path, line, words):
    found = "\n".join(faults(tmp_path, RUN + line + "\n"))
    assert "config.yaml" in found
    for word in words:
        assert word in found


def test_a_stage_that_is_off_leaves_no_trace_in_what_ids_are_made_of():
    bare = TrainingConfig(mode="full", val_share=0.1)
    assert "pool_stage" not in bare.model_dump()
    assert "pool_stage" not in bare.model_dump_json()
    for stage in (PoolStageConfig(epochs=2), None):
        given = bare.model_copy(update={"pool_stage": stage})
        assert TrainingConfig.model_validate(given.model_dump()) == given
        assert given.model_dump() != bare.model_dump()
    assert TrainingConfig.model_validate_json(bare.model_dump_json()) == bare


def test_every_fault_is_named(tmp_path):
    text = RUN.replace("store: runs\n", "") + "selection: {k: 0}\nseeds: x\n"
    found = "\n".join(faults(tmp_path, text))
    assert "store" in found
    assert "selection.k" in found
    assert "seeds" in found


def test_a_repeated_key_is_not_silently_the_last(tmp_path):
    assert "store" in "\n".join(faults(tmp_path, RUN + "store: elsewhere\n"))


@pytest.mark.parametrize("text", ["", "- a list", "just text", "a: [", "\t: x"])
def test_what_is_no_mapping_is_refused(tmp_path, text):
    assert "config.yaml" in "\n".join(faults(tmp_path, text))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    "text",
    [
        RUN.replace("store: runs", "store: s3://key:hunter2@bucket/x"),
        RUN + "runner: {kind: ray, address: 'ray://key:hunter2@host:10001'}\n",
    ],
)
def test_credentials_do_not_belong_in_a_uri_and_are_not_echoed(tmp_path, text):
    found = "\n".join(faults(tmp_path, text))
    assert "AWS_ACCESS_KEY_ID" in found
    assert "hunter2" not in found


def test_nothing_in_a_config_is_executed(tmp_path):
    mark = tmp_path / "mark"
    found = faults(tmp_path, f"store: !!python/object/apply:os.mkdir ['{mark}']\n")
    assert found
    assert not mark.exists()


def test_a_data_set_is_filled_in_for_its_seed():
    data = DataConfig(images="i-{seed}", labels="l-{seed}.parquet", where="seed = {seed}")
    assert data.at_seed(3) == DataConfig(images="i-3", labels="l-3.parquet", where="seed = 3")


@pytest.mark.parametrize(
    ("images", "name", "title"),
    [
        ("s3://bucket/crawl/2026/*.tar", None, "2026/*.tar"),
        ("s3://bucket/crawl/2026/*.tar", "crawl", "crawl"),
        ("pool.parquet", None, "pool.parquet"),
    ],
)
def test_a_pool_is_shown_by_its_name_or_the_end_of_its_address(images, name, title):
    assert PoolConfig(images=images, name=name).title == title


def test_a_config_is_immutable_and_survives_json():
    config = TrainingConfig(val_share=0.1, ensemble_alpha="choose")
    with pytest.raises(ValueError, match="frozen"):
        config.epochs = 3  # pyright: ignore[reportAttributeAccessIssue]
    assert TrainingConfig.model_validate_json(config.model_dump_json()) == config


def test_the_schema_describes_every_field():
    """Prefect draws its forms from it."""
    schema = RunConfig.model_json_schema()
    undescribed = [
        f"{name}.{field}"
        for name, model in schema["$defs"].items()
        for field, spec in model.get("properties", {}).items()
        if not ({"description", "const", "$ref", "anyOf", "enum"} & set(spec))
    ]
    assert undescribed == []


def test_the_example_is_a_valid_config():
    config = load_config(Path(__file__).parents[3] / "examples" / "config.yaml")
    assert config.selection == SelectionConfig()
    assert config.debug_val is not None
    assert config.compare.selections["paper_k20"].general_images == 0


@pytest.mark.parametrize("name", ["..", ".hidden", "a" * 101, "a/b", "ä"])
def test_a_name_is_that_of_a_folder(tmp_path, name):
    [fault] = faults(tmp_path, f"{RUN}name: '{name}'\n")
    assert "name" in fault


@pytest.mark.parametrize("name", ["failures", "Failures", ".."])
def test_a_pool_has_a_name_of_its_own(tmp_path, name):
    with pytest.raises(ValueError, match="name"):
        EmbedConfig(store="s", pool=PoolConfig(images="x", name=name))
    [fault] = faults(tmp_path, RUN.replace("pool: {", f"pool: {{name: '{name}', "))
    assert "name" in fault
