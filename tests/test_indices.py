"""Renaming and substituting indices: values must not change, and nothing may be captured."""

from __future__ import annotations

import mpmath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import Dummy, Eq, Idx, IndexedBase, Integer, Max, Piecewise, Sum, Symbol, exp, sympify
from values import value

from symprop.functions import Normalisation, log_softmax, logsumexp, reduce_max, softmax
from symprop.indices import (
    accesses,
    bound_indices,
    canonical,
    free_indices,
    fresh,
    freshen,
    index_name,
    make_sum,
    name_bound,
    numbered,
    size,
    substitute,
)

i, j, k, m = (Idx(name, 3) for name in "ijkm")
s, e, s2 = Idx("s", 3), Idx("e", 2), Idx("s2", 3)
two = Idx("two", 2)
u, v = IndexedBase("u", real=True), IndexedBase("v", real=True)
A, Q, K = (IndexedBase(name, real=True) for name in "AQK")
a, b = Symbol("a", real=True), Symbol("b", real=True)

NAMES = {
    "u": lambda n: mpmath.mpf(n * n - 2) / 3,
    "v": lambda n: mpmath.mpf(5 - 7 * n) / 4,
    "A": lambda n, r: mpmath.mpf(3 * n - 2 * r * r + 1) / 5,
    "Q": lambda n, r: mpmath.mpf(n + 4 * r - 3) / 6,
    "K": lambda n, r: mpmath.mpf(2 * n * r - n + 1) / 7,
    "a": mpmath.mpf("0.3"),
    "b": mpmath.mpf("-1.1"),
}


def worth(expression, **places):
    return value(expression, NAMES, {Idx(name, 3): place for name, place in places.items()})


def same(left, right, **places):
    return abs(worth(left, **places) - worth(right, **places)) < 1e-12


def test_size_and_name():
    assert size(e) == 2
    assert index_name(Idx(Dummy("r", integer=True), 4)) == "r"
    assert fresh(i) != i
    assert fresh(i) != fresh(i)
    assert (index_name(fresh(i)), size(fresh(i))) == ("i", 3)


# Free and bound


@pytest.mark.parametrize(
    ("expression", "free"),
    [
        (u[i], (i,)),
        (u[i + j], (i, j)),
        (i * a, (i,)),
        (Sum(A[i, j] * u[i], i), (j,)),
        (Sum(u[i], i) * u[i], (i,)),
        (Sum(A[i, j], i, j), ()),
        (logsumexp(A[i, k], k), (i,)),
        (logsumexp(A[i, k], i, k), ()),
        (softmax(u[k], k), (k,)),
        (softmax(u[k], k, m), (m,)),
        (softmax(A[i, k], k, j + 1), (i, j)),
        (softmax(u[k], k, Integer(0)), ()),
        (Sum(softmax(u[k], k) * v[k], k), ()),
        (Sum(softmax(A[i, k], k), k), (i,)),
        (Piecewise((u[i], j > 0), (a, True)), (i, j)),
        (A[Idx("i", 3), 0], (i,)),
        (a, ()),
        (Integer(3), ()),
    ],
    ids=str,
)
def test_free_indices(expression, free):
    assert free_indices(expression) == free


def test_free_indices_are_told_apart_by_range():
    assert free_indices(u[Idx("i", 3)] * v[Idx("i", 2)]) != (i,)


def test_bound_indices():
    assert bound_indices(Sum(A[i, j], i, j)) == (i, j)
    assert bound_indices(softmax(u[k], k, m)) == (k,)
    assert bound_indices(u[i]) == ()


# Substitution


def test_a_bound_index_is_not_replaced():
    expression = Sum(u[i] * v[j], i)
    assert substitute(expression, {i: k}) == expression


def test_attention_with_one_definition_for_both():
    """Q[s,e]*K[s2,e]: both were defined over [s,e]; the sum over e must stay its own."""
    score = Sum(Q[s, e] * K[s2, e], e)
    renamed = substitute(score, {s: i, s2: e})  # an index of the same name arrives
    assert free_indices(renamed) == (e, i)
    for n in range(3):
        for r in range(2):
            got = value(renamed, NAMES, {i: n, e: r})
            assert abs(got - value(score, NAMES, {s: n, s2: r})) < 1e-12


def test_capture_by_a_sum():
    inner = Sum(u[i] * v[j], i)
    replaced = substitute(inner, {j: i})
    assert free_indices(replaced) == (i,)
    assert same(replaced, u[i] * 0 + inner.xreplace({j: Integer(2)}), i=2)


def test_a_naive_replacement_would_capture():
    """The control: xreplace gives the sum of squares instead."""
    inner = Sum(u[i] * v[j], i)
    wrong = inner.function.xreplace({j: i})
    assert abs(worth(Sum(wrong, i)) - worth(substitute(inner, {j: i}), i=2)) > 0.1


def test_capture_by_reductions():
    for binding in (logsumexp, reduce_max):
        replaced = substitute(binding(A[k, j], k), {j: k})
        assert free_indices(replaced) == (k,)
        assert abs(worth(replaced, k=1) - worth(binding(A[k, 1], k))) < 1e-12


def test_capture_by_a_normalisation():
    replaced = substitute(softmax(A[j, k], k, m), {j: k, m: i})
    assert free_indices(replaced) == (i, k)
    expected = worth(softmax(A[2, k], k, Integer(1)))
    assert abs(worth(replaced, k=2, i=1) - expected) < 1e-12


def test_a_normalisation_at_another_position():
    moved = substitute(softmax(A[i, k], k), {k: m})
    assert moved == softmax(A[i, k], k, m)
    twice = substitute(softmax(A[i, k], k), {i: k, k: i})  # row k at position i
    assert abs(worth(twice, i=0, k=2) - worth(softmax(A[2, k], k), k=0)) < 1e-12


def test_values_arrive_where_indices_are_bound():
    """A value that reads index i is put into a sum over i."""
    replaced = substitute(Sum(u[i] * a, i), {a: v[i]})
    assert free_indices(replaced) == (i,)
    assert same(replaced, Sum(u[j], j) * v[i], i=1)


def test_squares_of_sums_keep_their_own_index():
    product = freshen(Sum(u[i], i) * Sum(u[i] * v[i], i))
    assert len({bound_indices(node) for node in product.atoms(Sum)}) == 2
    assert same(product, Sum(u[i], i) * Sum(u[i] * v[i], i))


def test_a_tensors_name_is_not_replaced():
    assert substitute(u[i], {Symbol("u", real=True): a}) == u[i]


def test_subscripts_are_replaced_within_piecewise():
    replaced = substitute(Piecewise((u[i], i > 0), (v[i], True)), {i: j})
    assert replaced == Piecewise((u[j], j > 0), (v[j], True))


def test_an_empty_substitution_changes_nothing():
    expression = Sum(u[i], i) + a
    assert substitute(expression, {}) is expression


# Names


def test_nested_sums_of_one_name():
    nested = Sum(u[i] * Sum(v[i], i), i)
    flat = freshen(nested)
    indices = [bound_indices(node)[0] for node in flat.atoms(Sum)]
    assert len(set(indices)) == 2
    assert same(nested, flat)
    assert same(nested, name_bound(flat))
    i2 = Idx("i2", 3)
    assert name_bound(flat) == Sum(u[i] * Sum(v[i2], i2), i)


def test_names_avoid_what_is_taken():
    dummy = fresh(i)
    assert str(name_bound(Sum(u[dummy], dummy), ["i", "i2"])) == "Sum(u[i3], (i3, 0, 2))"
    assert str(name_bound(Sum(u[dummy] * v[i], dummy))) == "Sum(u[i2]*v[i], (i2, 0, 2))"


def test_siblings_share_a_name():
    total = Sum(u[i], i) + exp(Sum(v[i], i))
    assert name_bound(freshen(total)) == total


def test_a_normalisation_is_written_with_one_index():
    dummy = fresh(k)
    assert name_bound(softmax(u[dummy], dummy, k)) == softmax(u[k], k)
    clash = name_bound(softmax(A[k, dummy], dummy, k))  # row k at position k
    assert str(clash) == "softmax(A[k, k2], k2)[k]"
    assert same(clash, softmax(A[k, m], m, k), k=1)
    short = name_bound(softmax(A[i, dummy], dummy, two))
    assert str(short) == "softmax(A[i, k], k)[two]"


def test_numbered():
    names = numbered("k")
    assert [next(names) for _ in range(3)] == ["k", "k2", "k3"]
    names = numbered("s2")
    assert [next(names) for _ in range(3)] == ["s2", "s2_2", "s2_3"]


def test_canonical_is_equal_exactly_up_to_renaming():
    one = Sum(u[i] * Sum(A[i, j], j), i)
    other = Sum(u[m] * Sum(A[m, i], i), m)
    assert one != other
    assert canonical(one) == canonical(other)
    assert canonical(one) != canonical(Sum(u[i] * Sum(A[j, i], j), i))
    assert canonical(Sum(u[i], i)) != canonical(Sum(u[two], two))
    assert canonical(softmax(u[k], k, j)) == canonical(softmax(u[m], m, j))
    assert canonical(softmax(u[k], k, j)) != canonical(log_softmax(u[k], k, j))
    assert canonical(Sum(u[i] * v[j], i)) != canonical(Sum(u[i] * v[k], i))


# Sums


@pytest.mark.parametrize(
    ("body", "bound", "expected"),
    [
        (u[i] * v[j], [j], u[i] * Sum(v[j], (j, 0, 2))),
        (u[i], [j], 3 * u[i]),
        (a, [i, e], 6 * a),
        (Integer(0), [i], Integer(0)),
        (Sum(A[i, j], (i, 0, 2)), [j], Sum(A[i, j], (j, 0, 2), (i, 0, 2))),
        (a * A[i, j], [i, j], a * Sum(A[i, j], (i, 0, 2), (j, 0, 2))),
        (u[i] + a, [i], Sum(u[i] + a, (i, 0, 2))),
        (i * a, [i], a * Sum(i, (i, 0, 2))),
        (u[i], [], u[i]),
    ],
    ids=str,
)
def test_make_sum(body, bound, expected):
    assert make_sum(sympify(body), bound) == expected


def test_make_sum_over_a_sum_that_binds_the_same_name():
    """Sum_i (Sum_i u[i]) v[i]: the inner i is another index, though it has the name."""
    body = Sum(u[i], (i, 0, 2)) * v[i]
    assert same(make_sum(body, [i]), Sum(u[j], j) * Sum(v[k], k))
    inner = Sum(A[i, j] * Sum(u[i], i), j)
    assert same(make_sum(inner, [i]), Sum(A[i, j], i, j) * Sum(u[k], k))


def test_a_sum_of_a_sum_over_the_same_index():
    """SymPy writes it as one Sum with the index twice."""
    twice = Sum(Sum(u[i], i), i)
    assert bound_indices(twice) == (i, i)
    for renamed in (freshen(twice), canonical(twice), name_bound(freshen(twice))):
        assert same(renamed, 3 * Sum(u[i], i))
    assert same(substitute(Sum(Sum(u[i] * v[j], i), i), {j: i}), 3 * Sum(u[m], m) * v[i], i=1)


# Accesses


def test_accesses():
    expression = a * u[i] + Sum(A[i, j] * b, i) + i + Piecewise((v[j], a > 0), (0, True))
    assert set(accesses(expression)) == {a, b, u[i], A[i, j], v[j]}
    assert accesses(u[i] + b + a) == accesses(a + b + u[i])


def test_accesses_in_subscripts():
    token = IndexedBase("token", real=True)
    assert set(accesses(A[token[s], e])) == {A[token[s], e], token[s]}
    assert set(accesses(A[a, e])) == {A[a, e], a}


# Random expressions


def leaves():
    indices = st.sampled_from([i, j, k])
    vectors = st.builds(lambda base, at: base[at], st.sampled_from([u, v]), indices)
    matrices = st.builds(lambda first, second: A[first, second], indices, indices)
    return st.one_of(vectors, matrices, st.sampled_from([a, b, Integer(2)]))


def binders(children):
    index = st.sampled_from([i, j, k])
    return st.one_of(
        st.builds(lambda left, right: left + right, children, children),
        st.builds(lambda left, right: left * right, children, children),
        st.builds(lambda body, at: Sum(body, at), children, index),
        st.builds(lambda body, at: logsumexp(body / 4, at), children, index),
        st.builds(lambda body, at, to: softmax(body / 4, at, to), children, index, index),
    )


EXPRESSIONS = st.recursive(leaves(), binders, max_leaves=5)
PLACES = st.fixed_dictionaries({name: st.integers(0, 2) for name in "ijk"})


def agree(left, right):
    return abs(left - right) <= 1e-10 * (1 + abs(left))


@settings(max_examples=100, deadline=None)
@given(EXPRESSIONS, PLACES)
def test_renaming_bound_indices_keeps_the_value(expression, places):
    expected = worth(expression, **places)
    fresh_ones = freshen(expression)
    assert agree(worth(fresh_ones, **places), expected)
    assert agree(worth(name_bound(fresh_ones), **places), expected)
    assert agree(worth(canonical(expression), **places), expected)
    assert canonical(fresh_ones) == canonical(expression)
    named = name_bound(fresh_ones)
    assert not named.atoms(Dummy)
    assert free_indices(named) == free_indices(expression)


@settings(max_examples=100, deadline=None)
@given(EXPRESSIONS, PLACES, st.permutations([i, j, k]))
def test_substitution_commutes_with_evaluation(expression, places, order):
    """The value after renaming i, j, k is the old one with i, j, k at the new ones' places."""
    mapping = dict(zip([i, j, k], order, strict=True))
    replaced = substitute(expression, mapping)
    moved = {index_name(old): places[index_name(new)] for old, new in mapping.items()}
    assert agree(worth(replaced, **places), worth(expression, **moved))


@settings(max_examples=100, deadline=None)
@given(EXPRESSIONS, PLACES, st.sets(st.sampled_from([i, j, k])))
def test_make_sum_is_a_sum(expression, places, bound):
    bound = sorted(bound, key=str)
    expected = worth(
        Sum(expression, *((n, 0, 2) for n in bound)) if bound else expression, **places
    )
    assert agree(worth(make_sum(expression, bound), **places), expected)


def test_normalisations_are_reached():
    """The control of the random tests: they do contain all kinds of binding nodes."""
    drawn = softmax(Sum(A[i, k], i), k, i)
    assert drawn.has(Normalisation)
    assert free_indices(drawn) == (i,)
    assert agree(worth(freshen(drawn), i=2), worth(drawn, i=2))


@pytest.mark.parametrize(
    ("expression", "mapping", "expected"),
    [
        (i >= j, {i: j + 1}, True),
        (i < j + 1, {i: j, j: i}, j < i + 1),
        (Eq(i, j), {i: Integer(1), j: Integer(2)}, False),
        (Max(a, b), {a: b - 3}, b),
        (Max(a, b), {a: Integer(2), b: Integer(3)}, 3),
        (Max(a, b, 0), {a: b, b: a}, Max(a, b, 0)),
    ],
)
def test_comparisons_are_decided_by_numbers_and_by_what_both_sides_have(
    expression, mapping, expected
):
    assert substitute(expression, mapping) == expected
