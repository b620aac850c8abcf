# SPDX-License-Identifier: MIT
"""Values of other libraries: what arrives of them, where their memory is, and what a peer cannot do with them."""

from __future__ import annotations

import datetime
import decimal
import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hosting import hosting, until

from lensipc import DataCloneError, DecodeError, UnknownValueError, adapters, clone
from lensipc.clone import constructors, reducers

LARGE = 1 << 17
"""Items of a column whose memory is large, whatever its type."""

pandas, polars, pyarrow, pil, torch = (
    pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed")
    for name in adapters.ADAPTERS
)


@pytest.fixture(scope="module", autouse=True)
def _runtime_of_polars() -> None:
    """Polars keeps descriptors of its own from its first query on: they are there before the first test."""
    if importlib.util.find_spec("polars"):
        import polars as pl

        pl.LazyFrame({"a": [1]}).select(pl.col("a").sum()).collect()


@pytest.fixture
def enable() -> Iterator[Callable[..., None]]:
    """Enable adapters for one test."""
    yield adapters.enable
    for name in list(adapters._enabled):
        adapters._enabled.pop(name).close()


def there_and_back(value: Any) -> Any:
    """A clone that lives in its message, as one that a renderer gets."""
    parts = clone.encode_parts(value)
    body = parts if isinstance(parts, bytes) else b"".join(parts)
    assert body == clone.encode(value)
    clone.decode(body)
    return clone.decode_owned(memoryview(bytearray(body)))


def of_large(value: Any) -> tuple[int, Callable[[int], bool], Any]:
    """How many bytes of a value's message are no views, whether an address lies in it, and the clone."""
    parts = clone.encode_parts(value)
    assert isinstance(parts, list)
    body = bytearray(b"".join(parts))
    begin = address(np.frombuffer(body, np.uint8))
    arrived = clone.decode_owned(memoryview(body))
    copied = sum(len(part) for part in parts if isinstance(part, bytes))
    return copied, lambda address: begin <= address < begin + len(body), arrived


def address(array: Any) -> int:
    return int(np.asarray(array).__array_interface__["data"][0])


# ---- pandas ----


@pandas
def test_frames_of_pandas_arrive_as_they_are(enable: Callable[..., None]) -> None:
    import pandas as pd

    enable("pandas")
    frame = pd.DataFrame(
        {
            "int": [1, 2], "float": [1.5, np.nan], "text": ["x", None], "day": pd.date_range("2020", periods=2),
            "zoned": pd.date_range("2020", periods=2, tz="Europe/Berlin"), "span": pd.to_timedelta([1, 2], "s"),
            "kind": pd.Categorical(["a", "b"], ordered=True), "Int": pd.array([1, None], dtype="Int64"),
            "Float": pd.array([1.5, None], dtype="Float32"), "Bool": pd.array([True, None], dtype="boolean"),
            "string": pd.array(["a", None], dtype="string"), "any": pd.Series([1, "x"], dtype=object),
        },
        index=pd.MultiIndex.from_product([["x"], [1, 2]], names=["p", "q"]),
    )  # fmt: skip
    stamps = [pd.Timestamp("2020", tz="UTC"), pd.NaT, pd.NA, [1], None, pd.Timedelta(5, "ns")]
    for each in (
        frame,
        pd.DataFrame(np.arange(12.0).reshape(4, 3), columns=list("abc")),
        pd.DataFrame(),
        pd.DataFrame(index=[1, 2]),
        pd.DataFrame(columns=["a"]),
        pd.DataFrame([[1, 2]], columns=["a", "a"]),
        pd.DataFrame({"x": ["b", "a"]}).sort_values("x"),
        pd.DataFrame({"x": pd.Series(["a"], dtype=object)}),
        pd.DataFrame({"x": pd.Series(stamps, dtype=object)}),
        frame.reset_index(),
    ):
        pd.testing.assert_frame_equal(there_and_back(each), each)
    for column in (*(frame[name] for name in frame), pd.Series([], dtype="float32"), pd.Series([1], name=("a", 1))):
        pd.testing.assert_series_equal(there_and_back(column), column)
    days = pd.date_range("2020", periods=3, tz="UTC", freq=None)
    of_ints = pd.MultiIndex.from_product([range(2), range(3)])
    categories = pd.CategoricalIndex(pd.Categorical([1, 2], categories=range(5)))
    for index in (frame.index, frame.columns, pd.RangeIndex(3, name="n"), days._with_freq(None), of_ints, categories):
        pd.testing.assert_index_equal(there_and_back(index), index)


@pandas
def test_times_of_pandas_arrive_with_their_nanoseconds_and_zones(enable: Callable[..., None]) -> None:
    import pandas as pd

    enable("pandas")
    for value in (
        pd.Timestamp("2020-01-01 12:00:00.123456789"),
        pd.Timestamp("2020", tz="Europe/Berlin"),
        pd.Timestamp("2020", tz=datetime.UTC),
        pd.Timedelta(5, "ns"),
    ):
        arrived = there_and_back({"t": value})["t"]
        assert (type(arrived), arrived, str(arrived)) == (type(value), value, str(value))
    assert there_and_back(pd.NaT) is pd.NaT
    assert there_and_back(pd.NA) is pd.NA


@pandas
def test_large_memory_of_pandas_is_not_copied_into_the_message_and_stays_in_it(enable: Callable[..., None]) -> None:
    import pandas as pd

    enable("pandas")
    block = pd.DataFrame(np.arange(4.0 * LARGE).reshape(LARGE, 4), columns=list("abcd"))
    copied, inside, arrived = of_large(block)
    assert copied < 4096
    assert all(inside(address(arrived[name])) for name in arrived)
    numbers = np.arange(LARGE)
    mixed = pd.DataFrame(
        {"i": numbers, "f": numbers / 2, "d": numbers.view("M8[s]"), "I": pd.array(numbers, dtype="Int32")}
    )
    copied, inside, arrived = of_large({"frame": mixed, "series": mixed["f"]})
    assert copied < 4096
    frame = arrived["frame"]
    assert all(inside(address(frame[name])) for name in "ifd")
    assert inside(address(frame["I"].array._data))
    pd.testing.assert_frame_equal(frame, mixed)


@pandas
def test_what_pandas_has_and_the_adapter_does_not_is_refused_by_its_column(enable: Callable[..., None]) -> None:
    import pandas as pd

    enable("pandas")
    frame = pd.DataFrame({"ok": [1], "span": pd.period_range("2020", periods=1)})
    reason = r"column 'span': the dtype period\[D\] does not cross: convert it first, with astype"
    with pytest.raises(
        DataCloneError, match=rf"value\['f'\] is a pandas\.\S*DataFrame that its encoder refuses: {reason}"
    ):
        clone.encode({"f": frame})
    with pytest.raises(DataCloneError, match=r"the dtype Sparse\S* \S* does not cross"):
        clone.encode(pd.Series([1], dtype="Sparse[int]"))

    class Zone(datetime.tzinfo):
        def utcoffset(self, _: object) -> datetime.timedelta:
            return datetime.timedelta(0)

        dst = tzname = lambda *_: None

    with pytest.raises(DataCloneError, match="a time zone that is a Zone does not cross: use zoneinfo"):
        clone.encode(pd.Timestamp("2020", tz=Zone()))


@pandas
def test_of_categories_and_levels_only_texts_and_sorted_ones_are_many(enable: Callable[..., None]) -> None:
    import pandas as pd

    enable("pandas")
    days = pd.date_range("2020", periods=1000, tz="UTC")
    names = pd.Index([f"name {n}" for n in range(1000, 0, -1)])
    for index in (
        pd.MultiIndex.from_product([days, names]),
        pd.MultiIndex.from_product([names.astype(object), [1, 2]]),
    ):
        pd.testing.assert_index_equal(there_and_back(index), index)
    of_numbers = pd.Series(pd.Categorical.from_codes([0, 1], np.arange(1000.0)))
    pd.testing.assert_series_equal(there_and_back(of_numbers), of_numbers)
    with pytest.raises(DataCloneError, match="more than 256 categories or levels have to be texts, or be sorted"):
        clone.encode(pd.Series(pd.Categorical.from_codes([0, 1], np.arange(1000.0)[::-1])))


@pandas
def test_a_subclass_of_a_frame_arrives_as_the_frame_though_it_was_met_before(enable: Callable[..., None]) -> None:
    import pandas as pd

    class Mine(pd.DataFrame):  # type: ignore[misc]
        pass

    mine = Mine({"a": [1]})
    with pytest.raises(DataCloneError, match=r"call lensipc\.adapters\.enable\('pandas'\)"):
        clone.encode(mine)
    enable("pandas")
    arrived = there_and_back(mine)
    assert type(arrived) is pd.DataFrame
    pd.testing.assert_frame_equal(arrived, pd.DataFrame(mine))


# ---- pyarrow and polars ----


@pyarrow
def test_tables_of_pyarrow_arrive_as_they_are(enable: Callable[..., None]) -> None:
    import pyarrow as pa

    enable("pyarrow")
    columns: dict[str, Any] = {
        "int": [1, None], "text": ["x", None], "list": [[1], None], "struct": [{"a": 1, "b": "x"}, None],
        "dictionary": pa.array(["a", "b"]).dictionary_encode(), "decimal": [decimal.Decimal("1.5"), None],
        "zoned": pa.array([1, 2], pa.timestamp("us", "Europe/Berlin")), "null": pa.nulls(2), "bool": [True, None],
        "bytes": [b"x", None], "fixed": pa.array([b"ab", None], pa.binary(2)), "date": [datetime.date.max, None],
        "fixed list": pa.array([[1, 2], None], pa.list_(pa.int8(), 2)), "span": pa.array([1, 2], pa.duration("ns")),
        "large": pa.array([["a"], []], pa.large_list(pa.large_string())), "time": [datetime.time(1), None],
        "inner": pa.array([["a"], ["b", "a"]], pa.list_(pa.dictionary(pa.int8(), pa.string()))),
        "half": pa.array(np.array([1, 2], np.float16)), "view of slices": pa.array(["a", "b", "c"]).slice(1),
    }  # fmt: skip
    table = pa.table(columns)
    empty = pa.table({"a": pa.chunked_array([], pa.int8())})
    for each in (
        table,
        table.slice(1),
        pa.concat_tables([table, table.slice(1)]),
        table.slice(0, 0),
        pa.table({}),
        empty,
    ):
        arrived = there_and_back(each)
        assert arrived.equals(each)
        assert arrived.schema.equals(each.schema)
        arrived.validate(full=True)
    for batch in (table.to_batches()[0], table.slice(1).to_batches()[0]):
        arrived = there_and_back(batch)
        assert type(arrived) is pa.RecordBatch
        assert arrived.equals(batch)
    with pytest.raises(DataCloneError, match="a column of type month_day_nano_interval does not cross: cast it first"):
        clone.encode(pa.table({"a": pa.array([], pa.month_day_nano_interval())}))


@pyarrow
def test_large_memory_of_pyarrow_is_not_copied_into_the_message_and_a_slice_takes_no_more_along(
    enable: Callable[..., None],
) -> None:
    import pyarrow as pa

    enable("pyarrow")
    table = pa.table({"n": np.arange(LARGE), "text": ["some text"] * LARGE})
    copied, inside, arrived = of_large(table)
    assert copied < 4096
    assert inside(arrived["n"].chunk(0).buffers()[1].address)
    assert arrived.equals(table)
    texts = ["shown", *["secret"] * (LARGE - 2), "shown"]
    secret = pa.table({"n": np.arange(LARGE), "text": texts, "kind": pa.array(texts).dictionary_encode()})
    for shown in (secret.slice(0, 1), secret.slice(LARGE - 1)):
        body = clone.encode(shown.drop_columns(["kind"]))
        assert len(body) < 2000
        assert b"shown" in body
        assert b"secret" not in body
        assert len(clone.encode(shown)) < 4000


@pyarrow
def test_columns_without_bytes_of_their_own_arrive_however_many_rows_they_have(enable: Callable[..., None]) -> None:
    import pyarrow as pa

    from lensipc.adapters.pyarrow import MOST_WITHOUT_BYTES

    enable("pyarrow")
    rows = MOST_WITHOUT_BYTES + 1
    numbers = pa.array(np.arange(2 * rows, dtype="<f4"))
    columns = {
        "struct": pa.StructArray.from_arrays([numbers.slice(0, rows)], ["a"]),
        "embeddings": pa.FixedSizeListArray.from_arrays(numbers, 2),
        "embeddings of structs": pa.FixedSizeListArray.from_arrays(pa.StructArray.from_arrays([numbers], ["a"]), 2),
        "nulls": pa.nulls(rows),
        "nulls in structs": pa.StructArray.from_arrays([pa.nulls(rows)], ["a"]),
        "nulls in lists": pa.ListArray.from_arrays(np.arange(rows + 1, dtype="<i4") * 2, pa.nulls(2 * rows)),
        "nothing": pa.Array.from_buffers(pa.struct([]), rows, [None]),
        "no bytes": pa.Array.from_buffers(pa.binary(0), rows, [None, pa.py_buffer(b"")]),
    }
    for name, column in columns.items():
        for sent in (pa.table({"a": column}), pa.table({"a": column}).slice(3)):
            arrived = there_and_back(sent)
            arrived.validate(full=True)
            assert arrived.equals(sent), name
    assert len(clone.encode(pa.table({"a": columns["nulls"]}))) < rows // 8 + 1000


@polars
@pyarrow
def test_frames_of_polars_arrive_as_they_are(enable: Callable[..., None]) -> None:
    import polars as pl
    from polars.testing import assert_frame_equal, assert_series_equal

    enable("polars")
    frame = pl.DataFrame(
        {
            "int": [1, None], "text": ["x", None], "list": [[1], [2, 3]], "struct": [{"x": 1}, {"x": 2}],
            "kind": pl.Series(["a", "b"], dtype=pl.Categorical), "day": [datetime.date(2020, 1, 1), None],
            "zoned": [datetime.datetime(2020, 1, 1, tzinfo=ZoneInfo("UTC")), None], "bool": [True, False],
            "span": [datetime.timedelta(1), None], "decimal": [decimal.Decimal("1.5"), None], "null": [None, None],
            "time": [datetime.time(1), None], "bytes": [b"x", None], "small": pl.Series([1, 2], dtype=pl.UInt8),
            "array": pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.Int8, 2)),
        }
    )  # fmt: skip
    for each in (frame, frame.slice(1), frame.head(0), pl.DataFrame(), pl.concat([frame, frame], rechunk=False)):
        assert_frame_equal(there_and_back(each), each)
    for series in (frame["list"], pl.Series([]), pl.Series("x", np.arange(5))):
        assert_series_equal(there_and_back(series), series)
    copied, inside, arrived = of_large(pl.DataFrame({"n": np.arange(LARGE)}))
    assert copied < 4096
    assert inside(address(arrived["n"].to_numpy(allow_copy=False)))
    with pytest.raises(DataCloneError, match="column 'o': objects of Python do not cross"):
        clone.encode(pl.DataFrame({"o": pl.Series([object()], dtype=pl.Object)}))


@polars
@pyarrow
def test_a_panic_of_polars_is_a_decode_error(enable: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    import polars as pl

    enable("polars")
    body = clone.encode(pl.DataFrame({"a": [1]}))

    def panic(*_: Any, **__: Any) -> None:
        raise pl.exceptions.PanicException("not yet implemented")

    monkeypatch.setattr(pl, "from_arrow", panic)
    with pytest.raises(DecodeError, match="polars panicked: not yet implemented"):
        clone.decode(body)


# ---- PIL and torch ----


@pil
def test_images_arrive_with_their_pixels_and_palettes(enable: Callable[..., None], tmp_path: Path) -> None:
    from PIL import Image

    from lensipc.adapters.pil import BITS

    enable("PIL")
    for mode, bits in BITS.items():
        size = (bits * 7 + 7) // 8 * 5
        image = Image.frombytes(mode, (7, 5), bytes(n * 37 % 256 for n in range(size)))
        if mode == "P":
            image.putpalette([n % 256 for n in range(300)])
        arrived = there_and_back({"image": image})["image"]
        assert (arrived.mode, arrived.size, arrived.tobytes()) == (mode, (7, 5), image.tobytes())
        assert arrived.getpalette() == image.getpalette()
        arrived.putpixel((0, 0), arrived.getpixel((1, 1)))
    assert there_and_back(Image.new("RGB", (0, 5))).size == (0, 5)
    Image.new("RGB", (3, 2), "red").save(tmp_path / "red.png")
    with Image.open(tmp_path / "red.png") as opened:
        assert type(opened) is not Image.Image
        arrived = there_and_back(opened)
        assert type(arrived) is Image.Image
        assert arrived.getpixel((0, 0)) == (255, 0, 0)
    copied, _, arrived = of_large(Image.new("RGBA", (500, 500), "blue"))
    assert copied < 4096
    assert arrived.getpixel((499, 499)) == (0, 0, 255, 255)


@torch
def test_tensors_arrive_with_their_numbers(enable: Callable[..., None]) -> None:
    import torch

    enable("torch")
    for tensor in (
        torch.arange(6).reshape(2, 3).T,
        torch.tensor(1.5),
        torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        torch.tensor([1 + 2j]).conj(),
        torch.nn.Parameter(torch.ones(2)),
        torch.tensor([True]),
        torch.tensor([]),
    ):
        arrived = there_and_back([tensor])[0]
        assert type(arrived) is torch.Tensor
        assert (arrived.dtype, arrived.shape, arrived.requires_grad) == (tensor.dtype, tensor.shape, False)
        assert torch.equal(arrived, tensor)
    copied, inside, arrived = of_large(torch.zeros(LARGE, dtype=torch.bfloat16))
    assert copied < 4096
    assert inside(arrived.data_ptr())
    with pytest.raises(DataCloneError, match="a sparse or quantized tensor does not cross: convert it first"):
        clone.encode(torch.eye(2).to_sparse())


# ---- asking for them ----


@pandas
def test_who_has_not_enabled_an_adapter_is_told_of_it_on_both_sides(enable: Callable[..., None]) -> None:
    import pandas as pd

    frame = pd.DataFrame({"a": [1]})
    way_out = r"call lensipc\.adapters\.enable\('pandas'\) in both processes"
    with pytest.raises(DataCloneError, match=rf"value\[0\] is a pandas\.\S*DataFrame: {way_out}"):
        clone.encode([frame])
    enable("pandas")
    body = clone.encode(frame)
    adapters._enabled.pop("pandas").close()
    with pytest.raises(UnknownValueError, match=rf"nothing is registered here as 'pandas\.\w+': {way_out}"):
        clone.decode(body)


def test_an_adapter_that_is_not_there_or_whose_library_is_not_installed_enables_nothing(
    enable: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="there is no adapter 'numpy': there are 'pandas', 'polars'"):
        enable("PIL", "numpy")
    assert adapters._enabled == {}
    monkeypatch.delitem(sys.modules, "lensipc.adapters.torch", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ModuleNotFoundError, match="the adapter 'torch' needs torch, which is not installed here"):
        enable("torch")
    assert adapters._enabled == {}


@pandas
def test_an_adapter_may_be_enabled_twice_and_stands_back_for_a_type_that_is_registered(
    enable: Callable[..., None],
) -> None:
    import pandas as pd

    enable("pandas")
    enable("pandas", "pandas")
    adapters._enabled.pop("pandas").close()
    undo = clone.register(pd.Series, "mine", lambda series: series.tolist(), pd.Series)
    try:
        with pytest.raises(ValueError, match="Series is registered already"):
            enable("pandas")
        assert adapters._enabled == {}
        assert "pandas.DataFrame" not in constructors.DECODERS
        assert there_and_back(pd.Series([1, 2])).tolist() == [1, 2]
    finally:
        undo()
    enable("pandas")


def test_nothing_of_any_library_is_imported_before_it_is_asked_for() -> None:
    code = """
import sys, lensipc
assert "lensipc.adapters" not in sys.modules
lensipc.adapters
assert not {"pandas", "polars", "pyarrow", "PIL", "torch", "numpy"} & set(sys.modules), sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pandas
async def test_frames_cross_between_processes_that_have_both_enabled_them(enable: Callable[..., None]) -> None:
    import pandas as pd

    frame = pd.DataFrame({"x": np.arange(LARGE, dtype=float), "text": "t"})
    enable("pandas")
    async with hosting(2) as host:
        knowing, other = host.renderers
        await host.ipc.run(knowing, "adapted:enable", "pandas")
        for renderer in host.renderers:
            await host.ipc.run(renderer, "note", "frame")
        host.ipc.note("frame")
        host.ipc.broadcast("frame", frame)
        total = float(frame["x"].sum())
        assert await host.ipc.run(knowing, "adapted:sums", "frame") == ["pandas", total, total]
        await until(lambda: host.ipc.heard["frame"])
        assert await host.ipc.run(other, "heard", "frame") == []
        assert host.main.renderers == [knowing, other]


# ---- hostile peers ----


class Forged:
    """What arrives as a value of a registered type that was made of `told`."""

    def __init__(self, name: str, told: Any) -> None:
        self.name, self.told = name, told


@pytest.fixture
def forging() -> Iterator[None]:
    reducers.EXACT[Forged] = lambda obj, _: (constructors.as_registered, (obj.name, obj.told))
    yield
    del reducers.EXACT[Forged]
    reducers.forget(Forged, subclasses=False)


def table(of: Any, length: int, buffers: tuple[Any, ...], *children: Any, rows: int | None = None) -> Any:
    """A table of one column: of a type, with one array."""
    return "pyarrow.Table", (length if rows is None else rows, [("a", of, True, [(length, buffers, children)])])


def series(array: Any, length: int, index: Any = None) -> Any:
    return "pandas.Series", (array, index or numbered(length), None)


def numbered(length: int) -> Forged:
    return Forged("pandas.Index", ("range", 0, length, 1, None))


BYTE = np.array([0xFF], np.uint8)
ENDLESS = numbered(1 << 40)
UNSORTED = Forged("pandas.Index", ("index", ("numpy", np.arange(300)[::-1].copy()), None))
KINDS = Forged("pandas.Index", ("index", ("objects", ["x"]), None))


def ints(*values: int) -> Any:
    return np.array(values, "<i4").view(np.uint8)


HOSTILE: dict[str, list[tuple[str, Any]]] = {
    "pyarrow": [
        table("string", 1, (None, ints(0, 1 << 20), BYTE)),
        table("string", 1, (None, ints(0, 1), BYTE)),  # no UTF-8
        table("string", 1, (None, ints(-5, 1), BYTE)),
        table("int64", 9, (None, np.zeros(8, np.uint8))),
        table("int64", 9, (np.zeros(1, np.uint8), None)),
        table("int8", 1, (None, np.zeros(1))),
        table("int8", -1, (None, BYTE)),
        table("int8", 1, (None, BYTE), rows=2),
        table("null", 1 << 40, (None,)),
        table("null", 1 << 40, (BYTE,)),
        table(("binary", 0), 1 << 40, (None, BYTE)),
        table(("struct",), 1 << 40, (None,)),
        table(("struct", ("x", "null", True)), 1 << 40, (None,), (1 << 17, (None,), ())),
        table(("fixed_list", ("x", "null", True), 1 << 20), 1 << 20, (None,), (1 << 17, (None,), ())),
        table(("fixed_list", ("x", "null", True), 0), 1 << 40, (None,), (0, (None,), ())),
        table(("list", ("x", "int8", True)), 1, (None, ints(0, 5)), (1, (None, BYTE), ())),
        table(("struct", ("x", "int8", True)), 1, (None,)),
        table(("struct", ("x", "int8", True)), 2, (None,), (1, (None, BYTE), ())),
        table(("dictionary", "int8", "int8", False), 1, (), (1, (None, BYTE), ()), (1, (None, BYTE), ())),
        table("extension<arrow.py_extension_type>", 1, (None, BYTE)),
        table(("decimal", 128, 99, 0), 1, (None, np.zeros(16, np.uint8))),
        table(ENDLESS, 1, (None, BYTE)),
        table((ENDLESS, 1), 1, (None, BYTE)),
        ("pyarrow.Table", (ENDLESS, [])),
        ("pyarrow.RecordBatch", (1, ENDLESS)),
    ],
    "pandas": [
        ("pandas.Index", ("index", ("numpy", np.zeros((2, 2))), None)),
        ("pandas.Index", ("multi", [ENDLESS], [np.zeros(1, "i1")], [None])),
        ("pandas.Index", (ENDLESS, [], [], [])),
        ("pandas.Index", ENDLESS),
        series(("categories", np.array([7], "i1"), KINDS, False), 1),
        series(("categories", np.array([0], "i1"), ENDLESS, False), 1),
        series(("categories", np.array([0], "i1"), UNSORTED, False), 1),
        ("pandas.Index", ("multi", [UNSORTED], [np.zeros(1, "i1")], [None])),
        series(("numpy", np.zeros(3)), 3, ENDLESS),
        series(("numpy", np.zeros(3, [("a", "i4")])), 3),
        series(("numpy", np.zeros(3, ">i4")), 3),
        series(("strings", True, ["a", 3]), 2),
        series(("masked", np.zeros(3), np.zeros(2, bool)), 3),
        series((ENDLESS, 1), 1),
        ("pandas.DataFrame", (ENDLESS, ENDLESS, np.zeros((2, 2)))),
        ("pandas.DataFrame", (["a"], ["b"], np.zeros((1, 1)))),
        ("pandas.DataFrame", (ENDLESS, numbered(1), [("numpy", np.zeros(1))])),
        ("pandas.Timestamp", (1, None)),
        ("pandas.Timestamp", (np.datetime64("2020"), "UTC")),
        ("pandas.Timedelta", 1),
        ("pandas.NaTType", []),
        ("pandas.NAType", "none"),
    ],
    "PIL": [
        ("PIL.Image", ("RGB", 1000, 1000, np.zeros(3, np.uint8), None)),
        ("PIL.Image", ("RGB", -1, -1, np.zeros(3, np.uint8), None)),
        ("PIL.Image", ("RGB", 0, 1 << 30, np.zeros(0, np.uint8), None)),
        ("PIL.Image", ("BGR;15", 1, 1, np.zeros(2, np.uint8), None)),
        ("PIL.Image", ("P", 1, 1, np.zeros(1, np.uint8), ("RGB", bytes(10**6)))),
        ("PIL.Image", ("P", 1, 1, np.zeros(1, np.uint8), ("L;junk", bytes(3)))),
        ("PIL.Image", ("L", 1, 1, np.zeros(1, np.uint8), ("RGB", bytes(3)))),
        ("PIL.Image", ("L", 1, 1, np.zeros(1, np.int8), None)),
    ],
    "polars": [
        ("polars.DataFrame", 1),
        ("polars.Series", ["a", 1]),
        ("polars.Series", (1, Forged(*table("int8", 1, (None, BYTE))))),
        ("polars.Series", ("a", Forged("pyarrow.Table", (0, [])))),
    ],
    "torch": [
        ("torch.Tensor", (None, np.zeros(2, "M8[s]"))),
        ("torch.Tensor", ("bfloat16", np.zeros(2))),
        ("torch.Tensor", ("eval", np.zeros(2))),
        ("torch.Tensor", ([], np.zeros(2))),
    ],
}


@pytest.mark.usefixtures("forging")
@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_adapter_would_have_written_is_refused(name: str, enable: Callable[..., None]) -> None:
    for needed in (name, *adapters._NEEDED.get(name, ())):
        pytest.importorskip(needed)
    enable(name)
    for wire_name, told in HOSTILE[name]:
        with pytest.raises(DecodeError):
            clone.decode(clone.encode(Forged(wire_name, told)))


@pyarrow
@pandas
@pytest.mark.usefixtures("forging")
def test_what_was_checked_once_cannot_be_changed_by_another_name_for_its_memory(enable: Callable[..., None]) -> None:
    enable("pyarrow", "pandas")
    offsets = np.arange(LARGE, dtype="<i4").view(np.uint8)
    text = np.full(LARGE, ord("a"), np.uint8)
    codes = np.zeros(LARGE, "i1")
    kinds = "categories", codes, KINDS, False
    told = [
        Forged(*table("string", LARGE - 1, (None, offsets, text))),
        Forged(*series(kinds, LARGE)),
        offsets,
        text,
        codes,
    ]
    texts, values, *memories = clone.decode_owned(memoryview(bytearray(clone.encode(told))))
    for memory in memories:  # the message's own, by another name
        memory[:] = 0x7F
    texts.validate(full=True)
    assert texts["a"][5].as_py() == "a"
    assert set(values) == {"x"}


@pandas
def test_a_slice_of_the_fuzzer_of_adapters_finds_nothing() -> None:
    fuzzer = Path(__file__).parent / "fuzz" / "fuzz_adapters.py"
    command = [sys.executable, str(fuzzer), "--count", "3000", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'refused': " in done.stdout
