"""Trajectories: views, splits without leakage, transitions, conditioning, fingerprints; and states read from disk."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from driftway.data import Axis, Fields, Trajectories, states, unwritten
from driftway.data.calendar import Calendar
from driftway.data.layout import Layout
from driftway.data.states import Lazy
from driftway.data.trajectories import SPLITS, coarsen
from driftway.errors import DataError
from tests.datasets import Counted, X, Y, example

quick = settings(deadline=None, max_examples=50)


def numbered(count: int, frames: int) -> Trajectories:
    """States that say which they are: 100·trajectory + frame."""
    states = (100 * np.arange(count)[:, None] + np.arange(frames)).astype(np.float32)
    return Trajectories(states[:, :, None, None], Fields(("u",), ("1",)), (Axis.uniform("x", 1, 1.0),), 0.5)


WRONG = {
    "states": ({"states": np.zeros((5, 7, 2, 6, 4), np.float32)}, "(5, 7, 2, 6, 4)"),
    "empty": ({"states": np.zeros((0, 7, 3, 6, 4), np.float32)}, "nothing empty"),
    "dt": ({"dt": 0.0}, "dt must be above 0, got 0.0"),
    "split": ({"splits": ("train",) * 4 + ("dev",)}, "train, valid, test"),
    "count": ({"splits": ("train",) * 4}, "each of the 5"),
    "parameter": ({"parameters": {"alpha": np.zeros(4)}}, "parameters 'alpha' has the shape (4,), must have (5,)"),
    "static": ({"static": {"mask": np.zeros((4, 6))}}, "static 'mask' has the shape (4, 6), must have (6, 4)"),
    "forcing": ({"forcing": {"wind": np.zeros((6, 6, 4))}}, "must have (7, 6, 4)"),
    "twice": ({"static": {"p": np.zeros((6, 4))}}, "'p' is taken"),
    "axis": ({"parameters": {"x": np.zeros(5)}}, "'x' is taken"),
    "list": ({"states": [[[[0.0]]]]}, "states must be an array (N, T, C, *S), got list"),
    "names": ({"fields": ("p", "v_x", "v_y")}, "fields must be Fields(names, units), got ('p', 'v_x', 'v_y')"),
    "reserved": ({"fields": Fields(("p", "time", "v"), ("1",) * 3)}, "'time' is taken"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_together_is_named(case: str) -> None:
    changes, words = WRONG[case]
    with pytest.raises(DataError, match=re.escape(words)):
        example(**changes)


def test_fields_are_found_by_name_and_must_differ() -> None:
    fields = Fields(("p", "q"), ("1", "m"))
    assert fields.index("q") == 1
    with pytest.raises(DataError, match="no field 'r'; there are p, q"):
        fields.index("r")
    with pytest.raises(DataError, match="different names"):
        Fields(("p", "p"), ("1", "1"))
    with pytest.raises(DataError, match="boundary 'closed' is none of periodic, wall, open"):
        Axis("x", (0.0, 1.0), "closed")


def test_a_uniform_axis_leaves_out_the_point_that_repeats() -> None:
    axis = Axis.uniform("x", 4, 2.0)
    assert (axis.coordinates, axis.boundary, axis.length) == ((0.0, 0.5, 1.0, 1.5), "periodic", 2.0)


def test_an_axis_holds_floats_whatever_it_is_made_of() -> None:
    axis = Axis("x", np.linspace(0, 1, 5, dtype=np.float32), "wall")  # type: ignore[arg-type]
    assert axis.coordinates == (0.0, 0.25, 0.5, 0.75, 1.0) and all(type(x) is float for x in axis.coordinates)
    assert hash(axis) == hash(Axis("x", (0.0, 0.25, 0.5, 0.75, 1.0), "wall", length=1))
    assert type(axis.length) is type(replace(axis, length=1).length) is float


@pytest.mark.parametrize(
    ("points", "boundary", "length"),
    [
        ((0.0, 0.5, 1.0, 1.5), "periodic", 2.0),
        ((3.0, 2.0, 1.0), "periodic", 3.0),
        ((0.0, 0.5, 1.0, 1.5), "wall", 1.5),
        ((90.0, 60.0, -90.0), "open", 180.0),
        ((7.0,), "periodic", 1.0),
        ((7.0,), "open", 1.0),
    ],
)
def test_the_length_of_an_axis_is_found_where_it_is_not_given(
    points: tuple[float, ...], boundary: str, length: float
) -> None:
    assert Axis("x", points, boundary).length == pytest.approx(length, rel=1e-12)


@pytest.mark.parametrize("points", [(0.0, 1.0, 1.0), (0.0, 2.0, 1.0), (0.0, np.nan, 1.0), (0.0, 1.0, np.inf)])
@pytest.mark.parametrize("boundary", ["wall", "periodic"])
def test_points_that_do_not_follow_one_another_are_refused(points: tuple[float, ...], boundary: str) -> None:
    with pytest.raises(DataError, match="axis 'x': coordinates must be finite and increase, or decrease"):
        Axis("x", points, boundary, 3.0)


@pytest.mark.parametrize("length", [0.0, -1.0, np.nan, np.inf])
def test_a_length_that_is_none_is_refused(length: float) -> None:
    with pytest.raises(DataError, match=r"axis 'x': length = .*, must be above 0"):
        Axis("x", (0.0, 1.0), "wall", length)


@quick
@given(st.integers(2, 64), st.floats(1e-3, 1e3), st.floats(0.002, 1) | st.floats(-1, -0.002))
def test_a_periodic_axis_has_equal_cells_that_fill_its_length(size: int, length: float, error: float) -> None:
    points = np.arange(size) * (length / size)
    assert len(Axis("x", tuple(np.float32(points).tolist()), "periodic", length)) == size
    moved = points.copy()
    moved[-1] += 0.9 * error * length / size
    for wrong, box in ((points, length * (1 + error)), (moved, length)):
        if box > 0:
            with pytest.raises(DataError, match=r"axis 'x': a periodic axis .* leave out the point that repeats"):
                Axis("x", tuple(wrong.tolist()), "periodic", box)


def test_a_data_set_is_shown_in_one_line() -> None:
    assert repr(example()) == (
        "Trajectories(p, v_x, v_y; shape (5, 7, 3, 6, 4), dt 0.25 h, splits {'train': 3, 'valid': 1, 'test': 1})"
    )
    assert repr(numbered(2, 3)) == "Trajectories(u; shape (2, 3, 1, 1), dt 0.5 1)"


def test_what_is_known_may_be_given_as_lists() -> None:
    data = example(parameters={"alpha": [0.0, 1.0, 2.0, 3.0, 4.0]}, static={"mask": [[1.0] * 4] * 6})
    known = data.select([4, 2]).conditioning(np.array([0, 1]), np.array([0, 0]))
    assert known.params is not None and known.params.tolist() == [[4.0], [2.0]]
    assert data.field_names == ("mask", "wind") and data.parameter_names == ("alpha",)


# --- states on disk ------------------------------------------------------------------------------------------------

ARRAY = np.arange(4 * 6 * 2 * 3, dtype=np.float32).reshape(4, 6, 2, 3)
pairs = st.lists(st.tuples(st.integers(-4, 3), st.integers(-6, 5)), max_size=12)


@quick
@given(pairs, st.integers(1, 6))
def test_lazy_frames_are_numpys(places: list[tuple[int, int]], together: int) -> None:
    rows, times = (np.array([place[i] for place in places], dtype=int) for i in (0, 1))
    assert np.array_equal(Lazy(Counted(ARRAY, together=together))[rows, times], ARRAY[rows, times])


@quick
@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=5),
    st.slices(6).filter(lambda s: len(range(6)[s]) > 0),
    st.data(),
)
def test_lazy_views_of_views_are_numpys(rows: list[int], times: slice, data: st.DataObject) -> None:
    lazy, array = Lazy(Counted(ARRAY))[rows][:, times], ARRAY[rows][:, times]
    assert lazy.shape == array.shape
    assert np.array_equal(np.asarray(lazy), array)
    places = data.draw(st.lists(st.tuples(*(st.integers(0, n - 1) for n in array.shape[:2])), min_size=1, max_size=9))
    at = tuple(np.array(places).T)
    assert np.array_equal(lazy[at], array[at])


def test_views_read_nothing_and_neighbours_are_read_together() -> None:
    reader = Counted(ARRAY)
    lazy = Lazy(reader)[[2, 0]][:, 1:]
    assert reader.calls == []
    assert np.array_equal(lazy[[0, 0, 1, 0], [3, 1, 4, 2]], ARRAY[[2, 2, 0, 2], [4, 2, 5, 3]])
    assert sorted(reader.calls) == [(0, 5, 6), (2, 2, 5)]


def test_frames_that_are_stored_as_one_are_read_once_in_blocks_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Counted(ARRAY, together=3)
    assert np.array_equal(Lazy(reader)[[1, 1, 0, 1], [0, 2, 1, 5]], ARRAY[[1, 1, 0, 1], [0, 2, 1, 5]])
    assert sorted(reader.calls) == [(0, 1, 2), (1, 0, 3), (1, 5, 6)]
    reader.calls.clear()
    monkeypatch.setattr(states, "BLOCK_BYTES", 2 * ARRAY[0, 0].nbytes)
    reader.together = 2
    assert np.array_equal(np.asarray(Lazy(reader)[[1]][:, ::-1]), ARRAY[[1], ::-1])
    assert reader.calls == [(1, 0, 2), (1, 2, 4), (1, 4, 6)]
    reader.calls.clear()
    assert np.array_equal(np.asarray(Lazy(reader)), ARRAY)
    assert reader.calls == [(row, 0, 6) for row in range(4)]


@pytest.mark.parametrize("key", [0, (0, 1), (slice(None), [0, 1]), ([0, 1], [0]), (0, slice(None)), (0, 0, 0)], ids=str)
def test_other_indices_of_states_on_disk_are_refused_rather_than_misread(key: object) -> None:
    with pytest.raises((TypeError, IndexError)):
        Lazy(Counted(ARRAY))[key]


def test_a_template_takes_no_memory() -> None:
    states = unwritten(10**4, 10**3, 1, 10**3)
    assert states.shape == (10**4, 10**3, 1, 10**3)
    assert set(states.strides) == {0}


# --- views ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lazy", [False, True])
def test_select_window_and_stride_keep_everything_together(lazy: bool) -> None:
    whole = example()
    data = replace(whole, states=Lazy(Counted(whole.states))) if lazy else whole
    part = data.select([3, 1]).window(1, 6).stride(2)
    assert np.array_equal(np.asarray(part.states), whole.states[[3, 1], 1:7:2])
    assert part.dt == 0.5
    assert part.parameters["viscosity"].tolist() == [1.75, 1.25]
    assert part.splits == ("test", "train")
    assert np.array_equal(part.forcing["wind"], whole.forcing["wind"][1:7:2])
    assert all(part.static[name] is whole.static[name] for name in whole.static)
    assert isinstance(part.load().states, np.ndarray)


@pytest.mark.parametrize("lazy", [False, True])
def test_windows_are_trajectories_of_their_own_with_all_that_is_known_of_them(lazy: bool) -> None:
    whole = replace(example(), calendar=Calendar((0.0, 5.0, 100.0, 2000.0, 8759.0)))
    data = replace(whole, states=Lazy(Counted(whole.states))) if lazy else whole
    found = data.stride(2).windows([1, 0], 2)
    assert found.shape[:2] == (10, 2) and found.splits == whole.splits * 2
    rows, times = np.arange(10), np.zeros(10, int)
    for row, (frame, old) in enumerate((frame, old) for frame in (2, 0) for old in range(5)):
        for t in range(2):
            state = np.asarray(found.states[[row], [t]])
            assert np.array_equal(state, whole.states[[old], [frame + 2 * t]])
        known = whole.conditioning(np.array([old]), np.array([frame]), 2)
        ours = found.conditioning(rows, times)
        assert torch.equal(ours.fields[row], known.fields[0]) and torch.equal(ours.params[row], known.params[0])
    again = found.select([7, 1]).window(1, 1)
    assert np.array_equal(np.asarray(again.states)[:, 0], whole.states[[2, 1], [2, 4]])


def test_frames_that_are_not_there_are_named() -> None:
    data = example()
    with pytest.raises(DataError, match="frames 4 … 7 lie outside the 7"):
        data.window(4, 4)
    with pytest.raises(DataError, match="at least 1, got 0"):
        data.stride(0)


# --- splits --------------------------------------------------------------------------------------------------------


@quick
@given(st.integers(3, 120), st.integers(0, 2**32))
def test_drawn_splits_share_no_trajectory_and_leave_none_out(count: int, seed: int) -> None:
    data = numbered(count, 2)
    parts = {name: data.split(name, seed).states[:, 0, 0, 0] // 100 for name in SPLITS}
    assert sorted(np.concatenate(list(parts.values()))) == list(range(count))
    tenth = max(1, round(count / 10))
    assert [len(parts[name]) for name in SPLITS] == [count - 2 * tenth, tenth, tenth]


def test_drawn_splits_are_a_function_of_the_seed() -> None:
    data = numbered(50, 2)
    first, again, other = (data.split("test", seed).states for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_stored_splits_come_first_and_an_empty_one_is_named() -> None:
    data = example()
    assert np.array_equal(data.split("train").states, data.states[[0, 1, 4]])
    with pytest.raises(DataError, match=r"split 'valid' is empty; .*'train': 5, 'valid': 0"):
        replace(data, splits=("train",) * 5).split("valid")


# --- transitions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 3])
def test_transitions_are_all_pairs_of_one_trajectory_once(stride: int) -> None:
    count, frames = 4, 6
    transitions = numbered(count, frames).transitions(stride)
    batch = transitions.batch(np.arange(len(transitions)))
    pairs = zip(batch.source.flatten().tolist(), batch.target.flatten().tolist(), strict=True)
    expected = [(100 * n + t, 100 * n + t + stride) for n in range(count) for t in range(frames - stride)]
    assert list(pairs) == expected


def test_transitions_from_disk_are_those_in_memory() -> None:
    data = example()
    lazy = replace(data, states=Lazy(Counted(data.states)))
    indices = np.array([29, 0, 7, 7, 13])
    for one, other in zip(lazy.transitions().batch(indices)[:2], data.transitions().batch(indices)[:2], strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one, other)


def test_batches_are_copies() -> None:
    data = example()
    before = data.states.copy()
    batch = data.transitions().batch(np.array([0, 1]))
    assert batch.conditioning.fields is not None
    for tensor in (batch.source, batch.target, batch.conditioning.fields):
        tensor.zero_()
    assert np.array_equal(data.states, before)
    assert data.static["mask"].any()


def test_a_step_knows_static_fields_the_forcing_of_its_first_frame_and_parameters_by_name() -> None:
    data = example()
    shuffled = replace(
        data,
        static=dict(reversed(data.static.items())),
        parameters=dict(reversed(data.parameters.items())),
    )
    for one in (data, shuffled):
        known = one.transitions(stride=2).batch(np.array([7, 14])).conditioning
        assert known.fields is not None and known.params is not None
        rows, times = [1, 2], [2, 4]
        expected = np.stack([[data.static["mask"], data.static["topography"], data.forcing["wind"][t]] for t in times])
        assert np.array_equal(known.fields.numpy(), expected)
        expected = np.stack([data.parameters["alpha"][rows], data.parameters["viscosity"][rows]], 1)
        assert np.array_equal(known.params.numpy(), expected.astype(np.float32))
    assert data.known == 3


def test_nothing_known_is_none() -> None:
    known = numbered(2, 3).transitions().batch(np.array([0])).conditioning
    assert (known.fields, known.params) == (None, None)


def test_a_stride_without_pairs_is_named() -> None:
    with pytest.raises(DataError, match="a stride of 7 leaves no pair of states in 7 frames"):
        example().transitions(7)


# --- fingerprints --------------------------------------------------------------------------------------------------


def nudged(values: np.ndarray) -> np.ndarray:
    """The same but for the last bit of the last number."""
    changed = np.array(values)
    changed.flat[-1] = np.nextafter(changed.flat[-1], np.inf, dtype=changed.dtype)
    return changed


def test_a_fingerprint_is_a_function_of_the_data_and_changes_with_any_of_it() -> None:
    data = example()
    changes = [
        {"states": nudged(data.states)},
        {"parameters": {**data.parameters, "alpha": nudged(data.parameters["alpha"])}},
        {"static": {**data.static, "mask": nudged(data.static["mask"])}},
        {"forcing": {"wind": nudged(data.forcing["wind"])}},
        {"forcing": {"gale": data.forcing["wind"]}},
        {"fields": Fields(("p", "v_x", "v_y"), ("hPa", "m s-1", "m s-1"))},
        {"axes": (X, replace(Y, boundary="open"))},
        {"dt": 0.5},
        {"time_units": "s"},
        {"splits": None},
    ]
    prints = [example().fingerprint(), *(replace(data, **change).fingerprint() for change in changes)]
    assert prints[0] == data.fingerprint()
    assert len(set(prints)) == len(prints)
    assert replace(data, states=Lazy(Counted(data.states))).fingerprint() == data.fingerprint()


def test_views_of_data_on_disk_have_fingerprints_of_their_own() -> None:
    data = replace(example(), digest="of the files")
    views = [data.select([0, 1]), data.select([1, 0]), data.window(0, 2), data.window(1, 2), data.stride(2)]
    prints = {view.fingerprint() for view in (data, *views, data.select([0, 1]).window(0, 2))}
    assert len(prints) == 7
    assert data.select([0, 1]).load().fingerprint() == data.select([0, 1]).fingerprint()


# --- grids ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(8,), (8, 6), (8, 6, 4)])
def test_coarse_fields_are_means_over_blocks(shape: tuple[int, ...]) -> None:
    fields = torch.randn(2, 3, *shape, dtype=torch.float64)
    split = [part for n in shape for part in (n // 2, 2)]
    means = fields.reshape(2, 3, *split).mean(tuple(range(3, 3 + 2 * len(shape), 2)))
    assert torch.allclose(coarsen(fields, tuple(n // 2 for n in shape)), means, rtol=0, atol=1e-15)
    assert coarsen(fields, shape) is fields


def test_a_layout_says_shape_boundary_and_lead_times() -> None:
    data = example()
    layout = Layout(data.fields, data.axes, data.dt, data.time_units)
    assert (layout.shape, layout.space, layout.boundary) == ((3, 6, 4), 2, ("periodic", "wall"))
    assert layout.lead_times(3).tolist() == [0.25, 0.5, 0.75]
