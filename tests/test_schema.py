"""Every key of an experiment is checked, has one meaning, and survives being written and read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import driftway
from driftway.build import check_codec, check_stepper
from driftway.config import load_yaml, override
from driftway.errors import ConfigError
from driftway.schema import EvaluationSection, Experiment, Section, dump, evaluation_of, keys, load_experiment

EXPERIMENTS = Path(driftway.__file__ or "driftway/__init__.py").parent / "experiments"
PAPER = EXPERIMENTS / "paper"
STUDIES = {*(EXPERIMENTS / "studies").rglob("*.yaml"), PAPER / "rayleigh_benard.yaml", PAPER / "climate.yaml"}
FILES = sorted(set(EXPERIMENTS.rglob("*.yaml")) - STUDIES)
MINIMAL = "name: tiny\ndata:\n  path: data.zarr\ntraining:\n  steps: 100\n"

# For each key of the schema a value that is not its default, as a command line would have it.
VALUES = {
    "name": "other-1.a_B",
    "seed": 7,
    "data.path": "folder/other.zarr",
    "data.stride": 3,
    "data.parameters": {"rayleigh": "log", "prandtl": "linear"},
    "data.calendar": ["hour"],
    "data.forcing_at": "start",
    "data.memory": 0.25,
    "data.statistics": "computed",
    "codec": [{"type": "run", "path": "runs/autoencoder"}, {"type": "standardize"}],
    "stepper": {"type": "generative", "sampler": {"type": "euler_maruyama", "steps": 4}, "antithetic": True},
    "guess": "runs/deterministic",
    "start": "runs/interpolant",
    "training.steps": 5,
    "training.batch": 3,
    "training.learning_rate": 5e-5,
    "training.weight_decay": 0.1,
    "training.warmup": 7,
    "training.schedule": "constant",
    "training.clip": None,
    "training.ema": 0.0,
    "training.augment": False,
    "training.input_noise": 0.1,
    "training.log_every": 3,
    "training.checkpoint_every": 4,
    "training.validate_every": 6,
    "training.validation.trajectories": 3,
    "training.validation.leads": 4,
    "training.validation.members": 5,
    "training.threads": 2,
    "training.device": "cuda:1",
    "evaluation.leads": 3,
    "evaluation.members": 4,
    "evaluation.trajectories": 5,
    "evaluation.starts": 2,
    "evaluation.split": "valid",
    "evaluation.batch": 6,
}
SECTIONS = {"data", "training", "training.validation", "evaluation"}


@pytest.fixture
def minimal(tmp_path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(MINIMAL)
    return path


def reloaded(experiment: Experiment, folder: Path) -> Experiment:
    path = folder / "dumped.yaml"
    path.write_text(dump(experiment))
    return load_experiment(path)


def value_of(experiment: Experiment, key: str) -> Any:
    found: Any = experiment
    for part in key.split("."):
        found = getattr(found, part)
    return list(found) if isinstance(found, tuple) else found


def flow(value: Any) -> str:
    """A value as one types it on a command line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {flow(entry)}' for key, entry in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(flow, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def test_the_keys_of_an_experiment_are_these():
    assert [key for key in keys() if key not in SECTIONS] == list(VALUES)


@pytest.mark.parametrize("key", VALUES)
def test_an_override_of_each_key_arrives_and_survives_being_written(minimal, tmp_path, key):
    experiment = load_experiment(minimal, [f"{key}={flow(VALUES[key])}"])
    assert value_of(experiment, key) == VALUES[key] != value_of(load_experiment(minimal), key)
    assert reloaded(experiment, tmp_path) == experiment


def test_every_default_is_written_out_and_reads_back(minimal, tmp_path):
    experiment = load_experiment(minimal)
    written = load_yaml_keys(dump(experiment), tmp_path)
    assert written == set(keys())
    assert reloaded(experiment, tmp_path) == experiment
    assert dump(reloaded(experiment, tmp_path)) == dump(experiment)


def load_yaml_keys(text: str, folder: Path) -> set[str]:
    (folder / "text.yaml").write_text(text)
    document, found = load_yaml(folder / "text.yaml"), set()
    waiting = [("", document)]
    while waiting:
        prefix, part = waiting.pop()
        for key, value in part.items():
            found.add(prefix + key)
            if prefix + key in SECTIONS:
                waiting.append((f"{prefix}{key}.", value))
    return found


def test_every_key_has_a_description_and_none_is_hidden():
    def described(section: type[Section]) -> None:
        for name, field in section.model_fields.items():
            assert field.description, name
            if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
                described(field.annotation)

    described(Experiment)


# --- the experiments that come with the package ------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(EXPERIMENTS)))
def test_an_experiment_that_comes_with_the_package_is_sound(path, tmp_path):
    experiment = load_experiment(path)
    check_codec(experiment.codec)
    check_stepper(experiment.stepper)
    assert reloaded(experiment, tmp_path) == experiment


def test_there_are_experiments_with_the_package():
    assert {path.parent.name for path in FILES} >= {"demo"}


# --- mistakes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training.stpes=3", "training.stpes: unknown key 'stpes'; did you mean 'steps'?"),
        ("steps=3", "steps: unknown key 'steps'; did you mean 'training.steps'?"),
        ("leads=3", "did you mean 'training.validation.leads' or 'evaluation.leads'?"),
        ("xyz=3", "xyz: unknown key 'xyz'; valid: name, seed, data, codec, stepper"),
        ("_target_=os.system", "unknown key '_target_'"),
        ("class_path=os.system", "unknown key 'class_path'"),
        ("training._target_=torch.optim.Adam", "training._target_: unknown key '_target_'"),
        ("training.steps=0", "training.steps: should be greater than or equal to 1, got 0"),
        ("training.steps=1.0", "training.steps: should be a valid integer, got 1.0"),
        ("training.steps='3'", "training.steps: should be a valid integer, got '3'"),
        ("training.steps=true", "training.steps: should be a valid integer, got True"),
        ("training.learning_rate=fast", "training.learning_rate: should be a valid number, got 'fast'"),
        ("training.learning_rate=.inf", "training.learning_rate: should be"),
        ("training.learning_rate=2", "training.learning_rate: should be less than or equal to 1, got 2"),
        ("training.ema=1", "training.ema: should be less than 1, got 1"),
        ("training.augment=no", "training.augment: should be a valid boolean, got 'no'"),
        ("training.schedule=cosin", "did you mean 'cosine'?"),
        ("training.device=gpu", "training.device: should be cpu, mps, cuda or cuda:N, N from 0, got 'gpu'"),
        ("training=3", "training: should be a mapping, got 3"),
        ("evaluation.split=tset", "did you mean 'test'?"),
        ("name=../x", "name: should be letters, digits"),
        ("name=a/b", "name: should be letters, digits"),
        ("name=.hidden", "name: should be letters, digits"),
        ("name=''", "name: should be letters, digits"),
        ("name=no\x00", "is not YAML"),
        ("seed=-1", "seed: should be greater than or equal to 0, got -1"),
        ("data.path=''", "data.path: "),
        ("codec=3", "codec: should be a list, got 3"),
        ("codec=[3]", "codec.0: should be the name of a component, or a mapping"),
        (
            "stepper={sampler: euler}",
            "stepper: should be the name of a component, or a mapping with the name as 'type'",
        ),
        ("stepper=[generative]", "stepper: should be the name of a component"),
    ],
)
def test_a_mistake_is_an_error_that_names_key_value_and_remedy(minimal, text, message):
    with pytest.raises(ConfigError) as caught:
        load_experiment(minimal, [text])
    assert message in str(caught.value) and str(caught.value).startswith("override ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL.replace("  steps", "  step"), ":5: training.step: unknown key 'step'; did you mean 'steps'?"),
        (MINIMAL + "  batch: many\n", ":6: training.batch: should be a valid integer, got 'many'"),
        (MINIMAL.replace("name: tiny\n", ""), ": name: is required"),
        (MINIMAL.replace("  path: data.zarr", "  stride: 2"), ":2: data.path: is required"),
        ("name: x\n", ": data: is required (and 1 more)"),
    ],
)
def test_a_mistake_in_a_file_names_its_line(tmp_path, text, message):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_experiment(path)
    assert message in str(caught.value) and str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepper.type=genrative", "stepper.type: unknown type 'genrative'; did you mean 'generative'?"),
        (
            "stepper={type: deterministic, netwrok: unet}",
            "unknown key 'netwrok' of deterministic; did you mean 'network'?",
        ),
        ("stepper={type: deterministic, network: {type: unet, widht: 3}}", "did you mean 'width'?"),
        ("stepper={type: generative, nosie: white}", "did you mean 'noise'?"),
        ("stepper={type: generative, noise: {type: fitted, fcator: 2}}", "did you mean 'factor'?"),
        ("stepper={type: generative, sampler: {type: heun, steps: 0}}", "steps must be at least 1, got 0"),
        ("stepper={type: generative, network: {type: unet, inputs: 3}}", "'inputs' of unet is set by the program"),
        ("stepper={type: generative, guess: runs/x}", "'guess' of generative is set by the program"),
        ("stepper={type: persistence, network: unet}", "unknown key 'network' of persistence; valid: none"),
        ("stepper={type: os.system}", "unknown type 'os.system'"),
        ("codec=[standardise]", "codec.0: unknown type 'standardise'; did you mean 'standardize'?"),
        ("codec=[{type: run}]", "run needs 'path'"),
        ("codec=[{type: autoencoder, latnet: 3}]", "did you mean 'latent'?"),
    ],
)
def test_a_mistake_in_a_component_is_found_without_data(minimal, text, message):
    experiment = load_experiment(minimal, [text])
    with pytest.raises(ConfigError) as caught:
        check_codec(experiment.codec)
        check_stepper(experiment.stepper)
    assert message in str(caught.value) and str(caught.value).startswith("override ")


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["generative", "x"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["type", "steps", "path"]), inner),
    max_leaves=4,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from([*VALUES, *SECTIONS]), PLAIN, min_size=1, max_size=3))
def test_any_plain_values_make_an_experiment_or_a_config_error(values):
    document: dict[str, Any] = {"name": "x", "data": {"path": "x"}, "training": {"steps": 1}}
    for key, value in values.items():
        *above, last = key.split(".")
        part = document
        for name in above:
            part = part[name] if isinstance(part.get(name), dict) else part.setdefault(f"{name}_", {})
        part[last] = value
    try:
        experiment = Experiment.model_validate(document)
        check_codec(experiment.codec)
        check_stepper(experiment.stepper)
    except (ConfigError, ValueError) as error:
        assert isinstance(error, ConfigError) or type(error).__name__ == "ValidationError"


# --- what a run says of its evaluation ---------------------------------------------------------------------------


def test_a_run_says_how_it_is_evaluated_and_what_is_given_goes_before(minimal, tmp_path):
    experiment = load_experiment(minimal, ["evaluation.leads=3", "evaluation.split=valid"])
    (tmp_path / "config.yaml").write_text(dump(experiment))
    assert evaluation_of(tmp_path, {}) == EvaluationSection(leads=3, split="valid")
    assert evaluation_of(tmp_path, {"leads": 5, "members": 2}) == EvaluationSection(leads=5, members=2, split="valid")


def test_an_emulator_without_configuration_is_evaluated_by_the_defaults(tmp_path):
    assert evaluation_of(tmp_path, {"leads": 2}) == EvaluationSection(leads=2)


def test_overrides_of_an_experiment_of_the_package_reach_a_component_two_files_down():
    document = override(load_yaml(EXPERIMENTS / "demo" / "guess.yaml"), ["stepper.network.width=8"])
    assert document["stepper"]["network"] == {"type": "unet", "width": 8, "blocks": 4}
