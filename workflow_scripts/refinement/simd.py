"""Short vectors of float32 for numba, in registers.

Numba leaves inner loops over a few labels scalar. These operations become LLVM vector instructions
of whatever width the processor has; LLVM splits or widens other lengths by itself. Arrays are flat,
contiguous and of float32; no bounds are checked.
"""

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic, models, register_model

FLOAT = ir.FloatType()
INT = ir.IntType(32)
FLAGS = ("contract",)

# 2^f for f in 0…1, a least-maximum polynomial, highest power first; relative error 3e-7.
POWER_OF_TWO = (
    1.8775767e-3,
    8.9893397e-3,
    5.5826318e-2,
    2.4015361e-1,
    6.9315308e-1,
    9.9999994e-1,
)


class VectorType(types.Type):
    """Numba's type of `lanes` float32 side by side."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"Vector({lanes})")


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: VectorType) -> None:
        super().__init__(manager, kind, ir.VectorType(FLOAT, kind.lanes))


def _fill(builder: Any, scalar: Any, lanes: int) -> Any:
    """A vector of one scalar in all lanes."""
    vector = ir.VectorType(scalar.type, lanes)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(INT, 0))
    mask = ir.Constant(ir.VectorType(INT, lanes), [0] * lanes)
    return builder.shuffle_vector(one, one, mask)


def _pointer(context: Any, builder: Any, kind: Any, numbers: Any, offset: Any, lanes: int) -> Any:
    """Where a vector begins in a flat array, as a pointer to such vectors."""
    array = context.make_array(kind)(context, builder, numbers)
    vector = ir.VectorType(FLOAT, lanes)
    return builder.bitcast(builder.gep(array.data, [offset]), vector.as_pointer())


@intrinsic
def load(typing: Any, numbers: Any, offset: Any, width: Any) -> Any:
    """The numbers of an array from an offset on, as many as the tuple `width` is long."""
    kind = VectorType(len(width))

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array, offset, _ = args
        pointer = _pointer(context, builder, signature.args[0], array, offset, kind.lanes)
        return builder.load(pointer, align=4)

    return kind(numbers, types.intp, width), generate


@intrinsic
def store(typing: Any, numbers: Any, offset: Any, vector: Any) -> Any:
    """Write a vector into an array from an offset on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array, offset, value = args
        lanes = signature.args[2].lanes
        pointer = _pointer(context, builder, signature.args[0], array, offset, lanes)
        builder.store(value, pointer, align=4)
        return context.get_dummy_value()

    return types.void(numbers, types.intp, vector), generate


@intrinsic
def filled(typing: Any, number: Any, width: Any) -> Any:
    """A vector of one float32 in all lanes, as many as the tuple `width` is long."""
    kind = VectorType(len(width))

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _fill(builder, args[0], kind.lanes)

    return kind(types.float32, width), generate


def _binary(name: str, meaning: str) -> Any:
    """The intrinsic of an operation on two vectors, lane by lane."""

    def typed(typing: Any, left: Any, right: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            if name == "fmax":
                larger = builder.fcmp_ordered(">", args[0], args[1])
                return builder.select(larger, args[0], args[1])
            return getattr(builder, name)(args[0], args[1], flags=FLAGS)

        return left(left, right), generate

    typed.__doc__ = meaning
    return intrinsic(typed)


add = _binary("fadd", "Sum of two vectors.")
subtract = _binary("fsub", "Difference of two vectors.")
multiply = _binary("fmul", "Product of two vectors.")
divide = _binary("fdiv", "Quotient of two vectors.")
maximum = _binary("fmax", "The larger one, lane by lane.")


@intrinsic
def scale(typing: Any, factor: Any, vector: Any) -> Any:
    """A float32 times a vector."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide = _fill(builder, args[0], signature.args[1].lanes)
        return builder.fmul(wide, args[1], flags=FLAGS)

    return vector(types.float32, vector), generate


@intrinsic
def exp(typing: Any, vector: Any) -> Any:
    """e^x of lanes x ≤ 0, relative error below 5e-6; e^-87 below −87."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = signature.args[0].lanes

        def constant(value: float) -> Any:
            return ir.Constant(ir.VectorType(FLOAT, lanes), [value] * lanes)

        integers = ir.VectorType(INT, lanes)
        t = builder.fmul(args[0], constant(1.4426950408889634), flags=FLAGS)
        large = builder.fcmp_ordered(">", t, constant(-126.0))
        t = builder.select(large, t, constant(-126.0))
        exponent = builder.fptosi(builder.fadd(t, constant(127.0)), integers)
        whole = builder.fsub(builder.sitofp(exponent, t.type), constant(127.0))
        f = builder.fsub(t, whole)
        y = constant(POWER_OF_TWO[0])
        for coefficient in POWER_OF_TWO[1:]:
            y = builder.fadd(builder.fmul(y, f, flags=FLAGS), constant(coefficient), flags=FLAGS)
        bits = builder.shl(exponent, ir.Constant(integers, [23] * lanes))
        return builder.fmul(y, builder.bitcast(bits, t.type))

    return vector(vector), generate


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """The columns of a 4×4 matrix of which the rows are given."""

    def shuffle(a: Any, b: Any, lanes: list[int]) -> Any:
        return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT, 4), lanes))

    low = [shuffle(rows[i], rows[i + 1], [0, 4, 1, 5]) for i in (0, 2)]
    high = [shuffle(rows[i], rows[i + 1], [2, 6, 3, 7]) for i in (0, 2)]
    return [
        shuffle(half[0], half[1], lanes)
        for half in (low, high)
        for lanes in ([0, 1, 4, 5], [2, 3, 6, 7])
    ]


@intrinsic
def transpose(
    typing: Any, source: Any, offset: Any, stride: Any, target: Any, to: Any, to_stride: Any
) -> Any:
    """target[to + j·to_stride + i] = source[offset + i·stride + j] for i, j in 0…3."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def rows(first: int) -> list[Any]:
            array, at, step = args[first : first + 3]
            pointers = []
            for _ in range(4):
                pointers.append(_pointer(context, builder, signature.args[first], array, at, 4))
                at = builder.add(at, step)
            return pointers

        values = [builder.load(pointer, align=4) for pointer in rows(0)]
        for column, pointer in zip(_transposed(builder, values), rows(3), strict=True):
            builder.store(column, pointer, align=4)
        return context.get_dummy_value()

    place = (types.intp, types.intp)
    return types.void(source, *place, target, *place), generate
