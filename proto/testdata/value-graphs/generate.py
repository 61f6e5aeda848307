#!/usr/bin/env python3
"""Writes the test vectors of the value-graph algebra (see README.md).

    python3 generate.py            write the *.json files next to this script
    python3 generate.py --check    exit 1 if the files on disk differ

Expected results are plain Python expressions, or values written by hand where
the algebra differs from Python. Nothing here evaluates a value graph.
"""

import base64
import hashlib
import inspect
import json
import math
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

I64_MIN, I64_MAX, U64_MAX = -(2**63), 2**63 - 1, 2**64 - 1
LARGE = 10**15  # more elements or characters than any runtime may produce

# ---------------------------------------------------------------- builder

# operation: (least operands, most operands or None, inputs of its body or None).
# With a body, operands beyond the most are captured values.
OPERATIONS = {
    "get": (2, 2, None), "get_path": (2, 2, None), "get_or": (3, 3, None),
    "slice": (3, 4, None), "length": (1, 1, None), "contains": (2, 2, None),
    "equal": (2, 2, None), "not_equal": (2, 2, None), "less": (2, 2, None),
    "less_or_equal": (2, 2, None), "greater": (2, 2, None),
    "greater_or_equal": (2, 2, None),
    "strict.equal": (2, 2, None), "strict.not_equal": (2, 2, None),
    "strict.less": (2, 2, None), "strict.less_or_equal": (2, 2, None),
    "strict.greater": (2, 2, None), "strict.greater_or_equal": (2, 2, None),
    "strict.minimum": (1, None, None), "strict.maximum": (1, None, None),
    "strict.sort": (1, 2, 1), "strict.min": (1, 1, None),
    "strict.max": (1, 1, None), "is_null": (1, 1, None),
    "coalesce": (1, None, None), "select": (3, 3, None), "type_of": (1, 1, None),
    "and": (1, None, None), "or": (1, None, None), "not": (1, 1, None),
    "add": (2, 2, None), "subtract": (2, 2, None), "multiply": (2, 2, None),
    "divide": (2, 2, None), "integer_divide": (2, 2, None),
    "modulo": (2, 2, None), "negate": (1, 1, None), "absolute": (1, 1, None),
    "floor": (1, 1, None), "ceil": (1, 1, None), "round": (1, 2, None),
    "power": (2, 2, None), "minimum": (1, None, None),
    "maximum": (1, None, None),
    "to_int": (1, 1, None), "to_float": (1, 1, None),
    "to_string": (1, 1, None), "to_bool": (1, 1, None),
    "list.append": (2, 2, None), "list.extend": (2, 2, None),
    "list.insert": (3, 3, None), "list.set": (3, 3, None),
    "list.delete": (2, 2, None), "list.pop": (1, 2, None),
    "list.remove": (2, 2, None), "list.reverse": (1, 1, None),
    "list.sort": (1, 2, 1), "list.unique": (1, 1, None),
    "list.concat": (1, None, None), "list.repeat": (2, 2, None),
    "list.flatten": (1, 1, None), "list.zip": (1, None, None),
    "list.enumerate": (1, 2, None), "list.range": (2, 3, None),
    "list.sum": (1, 1, None), "list.min": (1, 1, None),
    "list.max": (1, 1, None), "list.mean": (1, 1, None),
    "list.index_of": (2, 2, None), "list.count": (2, 2, None),
    "list.any": (1, 1, None), "list.all": (1, 1, None),
    "list.map": (1, 1, 1), "list.filter": (1, 1, 1),
    "list.reduce": (2, 2, 2), "list.group_by": (1, 1, 1),
    "map.set": (3, 3, None), "map.remove": (2, 2, None),
    "map.merge": (1, None, None), "map.keys": (1, 1, None),
    "map.values": (1, 1, None), "map.items": (1, 1, None),
    "map.from_items": (1, 1, None), "map.pick": (2, 2, None),
    "map.omit": (2, 2, None),
    "string.concat": (1, None, None), "string.upper": (1, 1, None),
    "string.lower": (1, 1, None), "string.trim": (1, 2, None),
    "string.split": (1, 2, None), "string.join": (2, 2, None),
    "string.replace": (3, 3, None), "string.starts_with": (2, 2, None),
    "string.ends_with": (2, 2, None), "string.find": (2, 2, None),
    "string.pad_start": (2, 3, None), "string.pad_end": (2, 3, None),
    "string.repeat": (2, 2, None), "string.format": (1, None, None),
    "json.encode": (1, 1, None), "json.decode": (1, 1, None),
    "base64.encode": (1, 1, None), "base64.decode": (1, 1, None),
    "sha256": (1, 1, None),
}
BODY_OPTIONAL = {"list.sort", "strict.sort"}

ERRORS = {"wrong_type", "missing_key", "bad_index", "division_by_zero",
          "overflow", "invalid_value", "not_found", "empty", "limit_exceeded"}


class Node:
    """One node of a graph; `parts` are the nodes that it refers to."""

    def __init__(self, kind, data=None, parts=(), scope=None, inner=None):
        self.kind, self.data, self.parts = kind, data, list(parts)
        self.scope, self.inner = scope, inner


def node(value):
    """A node as it is; every other Python value as a literal."""
    return value if isinstance(value, Node) else Node("literal", value)


lit = node


def inp(name):
    return Node("input", name)


def lst(*items):
    return Node("list", None, map(node, items))


def mp(*items, **named):
    """mp(("key", value), ...) or mp(key=value, ...)"""
    pairs = [*items, *named.items()]
    return Node("map", [key for key, _ in pairs], [node(v) for _, v in pairs])


def op(name, *operands, body=None):
    least, most, own = OPERATIONS[name]
    assert len(operands) >= least, name
    inner = None
    if body is None:
        assert own is None or name in BODY_OPTIONAL, name
        assert most is None or len(operands) <= most, name
    else:
        captured = max(0, len(operands) - most)
        scope = object()
        count = len(inspect.signature(body).parameters)
        assert count == own + captured, (name, count)
        inputs = [Node("body_input", i, scope=scope) for i in range(count)]
        inner = (node(body(*inputs)), scope)
    return Node("operation", name, map(node, operands), inner=inner)


def flatten(result, scope=None):
    """The table of nodes under `result`, each after those that it refers to."""
    table, index = [], {}

    def visit(n):
        if id(n) in index:
            return index[id(n)]
        parts = [visit(part) for part in n.parts]
        if n.kind == "literal":
            row = {"literal": n.data}
        elif n.kind == "input":
            assert scope is None, "a body captures inputs as further operands"
            row = {"input": n.data}
        elif n.kind == "body_input":
            assert n.scope is scope, "a body sees only its own inputs"
            row = {"body_input": n.data}
        elif n.kind == "list":
            row = {"list": parts}
        elif n.kind == "map":
            row = {"map": [[key, part] for key, part in zip(n.data, parts)]}
        else:
            row = {"operation": n.data, "inputs": parts}
            if n.inner:
                row["body"] = flatten(*n.inner)
            used.add(n.data)
        table.append(row)
        index[id(n)] = len(table) - 1
        return index[id(n)]

    last = visit(result)
    return {"nodes": table, "result": last}


families, names, used = {}, set(), set()
succeeding, failing = set(), set()
current = None


def family(name):
    global current
    assert name not in families
    current = families[name] = []


def vector(name, graph, inputs):
    assert name not in names, "two vectors are named " + name
    names.add(name)
    used.clear()
    return {"name": name, **flatten(node(graph)), "inputs": inputs}


def portable(value):
    """Only floats whose shortest form is the same in every language."""
    if isinstance(value, float):
        assert math.isfinite(value) and "e" not in repr(value), value
    elif isinstance(value, dict):
        for key, item in value.items():
            assert isinstance(key, str), key
            portable(item)
    elif isinstance(value, list):
        for item in value:
            portable(item)
    else:
        assert value is None or isinstance(value, (bool, int, str)), value


def case(name, expect, graph, **inputs):
    """A graph with its result: a value, or a function that gives it."""
    entry = vector(name, graph, inputs)
    entry["expect"] = expect() if callable(expect) else expect
    portable(entry)
    succeeding.update(used)
    current.append(entry)


def fails(name, kind, graph, **inputs):
    """A graph that fails with an error of `kind`."""
    assert kind in ERRORS, kind
    entry = vector(name, graph, inputs)
    entry["error"] = kind
    failing.add(kind)
    current.append(entry)


def boom():
    """Fails with division_by_zero if it is computed."""
    return op("divide", 1, 0)


def compact(value):
    return json.dumps(value, separators=(",", ":"))


# ---------------------------------------------------------------- generic

family("generic")

case("get the first element", lambda: [10, 20, 30][0], op("get", [10, 20, 30], 0))
case("get the last element by a negative index", lambda: [10, 20, 30][-1], op("get", [10, 20, 30], -1))
case("get the first element by the lowest negative index", lambda: [10, 20, 30][-3], op("get", [10, 20, 30], -3))
case("get an element that is null", lambda: [None][0], op("get", [None], 0))
case("get a value of a map", lambda: {"a": 1, "b": 2}["b"], op("get", {"a": 1, "b": 2}, "b"))
case("get the value of the empty key", lambda: {"": "x"}[""], op("get", {"": "x"}, ""))
case("get a value that is null", lambda: {"a": None}["a"], op("get", {"a": None}, "a"))
case("get the value of a key of digits", lambda: {"0": "zero"}["0"], op("get", {"0": "zero"}, "0"))
case("get a code point", lambda: "abc"[1], op("get", "abc", 1))
case("get a code point beyond the BMP", lambda: "a😀b"[1], op("get", "a😀b", 1))
case("get a code point after one beyond the BMP", lambda: "a😀b"[2], op("get", "a😀b", 2))
case("get the last code point", lambda: "ab😀"[-1], op("get", "ab😀", -1))
case("get a combining code point", lambda: "e\u0301"[1], op("get", "e\u0301", 1))
case("get of a job's output", lambda: {"files": ["x", "y"]}["files"][1], op("get", op("get", inp("job"), "files"), 1), job={"files": ["x", "y"]})
fails("get beyond the end of a list", "bad_index", op("get", [1, 2, 3], 3))
fails("get before the start of a list", "bad_index", op("get", [1, 2, 3], -4))
fails("get of an empty list", "bad_index", op("get", [], 0))
fails("get beyond the end of a string", "bad_index", op("get", "a😀", 2))
fails("get of the empty string", "bad_index", op("get", "", -1))
fails("get at the greatest int", "bad_index", op("get", [1], U64_MAX))
fails("get at the least int", "bad_index", op("get", [1], I64_MIN))
fails("get of a missing key", "missing_key", op("get", {"a": 1}, "b"))
fails("get of an empty map", "missing_key", op("get", {}, ""))
fails("get of a key that differs in case", "missing_key", op("get", {"Key": 1}, "key"))

DEEP = {"a": [{"b": "x😀"}, [1, [2, 3]]]}
case("get_path through maps and lists", lambda: DEEP["a"][0]["b"], op("get_path", DEEP, ["a", 0, "b"]))
case("get_path into a string", lambda: DEEP["a"][0]["b"][1], op("get_path", DEEP, ["a", 0, "b", 1]))
case("get_path with negative indexes", lambda: DEEP["a"][-1][-1][-2], op("get_path", DEEP, ["a", -1, -1, -2]))
case("get_path of the empty path", lambda: DEEP, op("get_path", DEEP, []))
case("get_path of the empty path of null", None, op("get_path", None, []))
case("get_path with a computed path", lambda: DEEP["a"][0], op("get_path", DEEP, lst("a", op("subtract", 1, 1))))
fails("get_path to a missing key", "missing_key", op("get_path", DEEP, ["a", 0, "c"]))
fails("get_path to a missing index", "bad_index", op("get_path", DEEP, ["a", 2]))
fails("get_path through null", "wrong_type", op("get_path", {"a": None}, ["a", "b"]))
fails("get_path through an int", "wrong_type", op("get_path", {"a": 1}, ["a", "b"]))
fails("get_path with a string key on a list", "wrong_type", op("get_path", DEEP, ["a", "0"]))
fails("get_path with null in the path", "wrong_type", op("get_path", DEEP, ["a", None]))

case("get_or of a present key", lambda: {"a": 1}.get("a", 9), op("get_or", {"a": 1}, "a", 9))
case("get_or of a missing key", lambda: {"a": 1}.get("b", 9), op("get_or", {"a": 1}, "b", 9))
case("get_or of a present index", 5, op("get_or", [4, 5], -1, 0))
case("get_or of an index out of range", "none", op("get_or", [4, 5], 2, "none"))
case("get_or of a negative index out of range", "none", op("get_or", [4, 5], -3, "none"))
case("get_or of the greatest int", "none", op("get_or", [4, 5], U64_MAX, "none"))
case("get_or of a code point", "😀", op("get_or", "a😀", 1, "?"))
case("get_or beyond the end of a string", "?", op("get_or", "a😀", 2, "?"))
case("get_or of null", "default", op("get_or", None, "a", "default"))
case("get_or with a default that is null", lambda: {}.get("a"), op("get_or", {}, "a", None))
case("get_or does not compute an unneeded default", 1, op("get_or", {"a": 1}, "a", boom()))
fails("get_or computes a needed default", "division_by_zero", op("get_or", {"a": 1}, "b", boom()))
fails("get_or of an int", "wrong_type", op("get_or", 5, "a", 0))
fails("get_or of a list with a string key", "wrong_type", op("get_or", [1], "a", 0))
fails("get_or of a map with an int key", "wrong_type", op("get_or", {"a": 1}, 0, 0))

case("length of a list", lambda: len([1, [2, 3], None]), op("length", [1, [2, 3], None]))
case("length of an empty list", lambda: len([]), op("length", []))
case("length of a map", lambda: len({"a": 1, "b": 2}), op("length", {"a": 1, "b": 2}))
case("length of an empty map", lambda: len({}), op("length", {}))
case("length of a string in code points", lambda: len("añ😀"), op("length", "añ😀"))
case("length of a string with a combining code point", lambda: len("e\u0301"), op("length", "e\u0301"))
case("length of the empty string", lambda: len(""), op("length", ""))

case("contains an element", lambda: 2 in [1, 2], op("contains", [1, 2], 2))
case("contains no such element", lambda: 3 in [1, 2], op("contains", [1, 2], 3))
case("contains an equal float", lambda: 1.0 in [1, 2], op("contains", [1, 2], 1.0))
case("contains does not take true for 1", False, op("contains", [1, 2], True))  # a bool is no number
case("contains does not take 0 for false", False, op("contains", [False], 0))  # a bool is no number
case("contains an equal list", lambda: [2.0] in [[1], [2]], op("contains", [[1], [2]], [2.0]))
case("contains null", lambda: None in [1, None], op("contains", [1, None], None))
case("contains in an empty list", lambda: None in [], op("contains", [], None))
case("contains a key", lambda: "a" in {"a": None}, op("contains", {"a": None}, "a"))
case("contains no such key", lambda: "b" in {"a": "b"}, op("contains", {"a": "b"}, "b"))
case("contains a part", lambda: "bc" in "abcd", op("contains", "abcd", "bc"))
case("contains no such part", lambda: "ac" in "abcd", op("contains", "abcd", "ac"))
case("contains the empty part", lambda: "" in "", op("contains", "", ""))
case("contains a part beyond the BMP", lambda: "😀" in "a😀b", op("contains", "a😀b", "😀"))

case("is_null of null", True, op("is_null", None))
for text, value in [("false", False), ("0", 0), ("an empty string", ""), ("an empty list", []), ("an empty map", {})]:
    case(f"is_null of {text}", False, op("is_null", value))

case("coalesce gives the first that is not null", 3, op("coalesce", None, None, 3, 4))
case("coalesce takes false", False, op("coalesce", None, False, 1))
case("coalesce takes 0", 0, op("coalesce", 0, 1))
case("coalesce of nulls", None, op("coalesce", None, None))
case("coalesce of one operand", "x", op("coalesce", "x"))
case("coalesce of a job's output that is null", "default", op("coalesce", inp("a"), "default"), a=None)
case("coalesce does not compute unneeded operands", 1, op("coalesce", None, 1, boom()))
fails("coalesce computes needed operands", "division_by_zero", op("coalesce", None, boom(), 1))

case("select the then side", lambda: "yes" if True else "no", op("select", True, "yes", "no"))
case("select the else side", lambda: "yes" if False else "no", op("select", False, "yes", "no"))
case("select by the truth of a list", lambda: "yes" if [0] else "no", op("select", [0], "yes", "no"))
case("select by the truth of an empty map", lambda: "yes" if {} else "no", op("select", {}, "yes", "no"))
case("select by the truth of null", lambda: "yes" if None else "no", op("select", None, "yes", "no"))
case("select by the truth of the string 0", lambda: "yes" if "0" else "no", op("select", "0", "yes", "no"))
case("select does not compute the else side", 1, op("select", True, 1, boom()))
case("select does not compute the then side", 2, op("select", False, boom(), 2))
case("select guards a division", lambda: 10 / 4 if 4 else None, op("select", inp("n"), op("divide", 10, inp("n")), None), n=4)
case("select guards a division by zero", None, op("select", inp("n"), op("divide", 10, inp("n")), None), n=0)
fails("select computes the taken side", "division_by_zero", op("select", True, boom(), 2))
fails("select computes its condition", "division_by_zero", op("select", boom(), 1, 2))

for text, value in [("null", None), ("bool", False), ("int", 0), ("float", 0.5), ("string", "1"), ("list", []), ("map", {})]:
    case(f"type_of gives {text}", text, op("type_of", value))
case("type_of a float without a fraction", "float", op("type_of", 1.0))
case("type_of the greatest int", "int", op("type_of", U64_MAX))
case("type_of the least int", "int", op("type_of", I64_MIN))

# and, or: Python's, but the result is the truth.
case("and of true values", lambda: bool(1 and "a"), op("and", 1, "a"))
case("and of a false value", lambda: bool(1 and [] and 2), op("and", 1, [], 2))
case("and of one operand", lambda: bool("a"), op("and", "a"))
case("and stops early", False, op("and", True, 0, boom()))
fails("and computes further operands after true ones", "division_by_zero", op("and", True, boom()))
case("or of a true value", lambda: bool(0 or "a"), op("or", 0, "a"))
case("or of false values", lambda: bool(0 or "" or None), op("or", 0, "", None))
case("or of one operand", lambda: bool(0.0), op("or", 0.0))
case("or stops early", True, op("or", False, "x", boom()))
fails("or computes further operands after false ones", "division_by_zero", op("or", False, boom()))
case("not of true", lambda: not True, op("not", True))
case("not of null", lambda: not None, op("not", None))
case("not of an empty string", lambda: not "", op("not", ""))
case("not of a list with a false value", lambda: not [False], op("not", [False]))
case("not of a job's comparison", lambda: not (3 > 5), op("not", op("greater", inp("n"), 5)), n=3)

# ---------------------------------------------------------------- compare

family("compare")

# Written by hand: a bool is no number, every two values are comparable.
for text, a, b, same in [
    ("equal ints", 3, 3, True), ("unequal ints", 3, 4, False),
    ("1 and 1.0", 1, 1.0, True), ("0 and -0.0", 0, -0.0, True),
    ("0.1 and 0.5", 0.1, 0.5, False), ("1 and true", 1, True, False),
    ("0 and false", 0, False, False), ("1.0 and true", 1.0, True, False),
    ("null and null", None, None, True), ("null and false", None, False, False),
    ("null and 0", None, 0, False), ("1 and the string 1", 1, "1", False),
    ("equal strings", "a😀", "a😀", True), ("strings that differ in case", "a", "A", False),
    ("a composed and a decomposed letter", "\u00e9", "e\u0301", False),
    ("lists of equal numbers", [1, [2, 3.0]], [1.0, [2, 3]], True),
    ("lists of true and 1", [True], [1], False),
    ("lists of different lengths", [1, 2], [1], False),
    ("an empty list and an empty map", [], {}, False),
    ("an empty list and null", [], None, False),
    ("maps with another order of keys", {"a": 1, "b": [2]}, {"b": [2.0], "a": 1}, True),
    ("maps with different values", {"a": 1}, {"a": 2}, False),
    ("maps with different keys", {"a": 1}, {"b": 1}, False),
    ("maps with true and 1", {"a": True}, {"a": 1}, False),
    ("a map and a larger one", {"a": None}, {"a": None, "b": None}, False),
    ("the greatest int and the one below", U64_MAX, U64_MAX - 1, False),
    ("ints at 2^63", I64_MAX, I64_MAX + 1, False),
    ("2^53 and its float", 2**53, 9007199254740992.0, True),
    ("2^53 + 1 and the float 2^53", 2**53 + 1, 9007199254740992.0, False),
]:
    case(f"equal: {text}", same, op("equal", a, b))
    case(f"not_equal: {text}", not same, op("not_equal", a, b))

# Each row rises: the first is less than the second in the total order.
RISING = [
    ("ints", -1, 2), ("an int and a float", 1, 1.5), ("a float and an int", -2.5, -2),
    ("ints at the lower limit", I64_MIN, I64_MIN + 1),
    ("ints at 2^63", I64_MAX, I64_MAX + 1),
    ("the limits of ints", I64_MIN, U64_MAX),
    ("a float and the int just above it", 9007199254740992.0, 2**53 + 1),
    ("null and false", None, False), ("false and true", False, True),
    ("true and a negative number", True, -5), ("true and 0.5", True, 0.5),
    ("a number and a string", 10, "1"), ("a string and a list", "z", []),
    ("a list and a map", [9], {}), ("null and a map", None, {}),
    ("strings", "abc", "abd"), ("a string and a longer one", "ab", "abc"),
    ("the empty string and a blank", "", " "), ("upper case and lower case", "Z", "a"),
    ("numerals as strings", "10", "9"),
    ("a code point of the BMP and one beyond", "\uff5e", "😀"),
    ("lists by the first difference", [1, 9, 9], [2]),
    ("a list and a longer one", [1, 2], [1, 2, None]),
    ("an empty list and a list", [], [None]),
    ("nested lists", [[1], [2]], [[1], [2, 0]]),
    ("lists with elements of different types", [1, None], [1, False]),
    ("maps by value", {"a": 1}, {"a": 2}), ("maps by key", {"a": 9}, {"b": 0}),
    ("an empty map and a map", {}, {"": None}),
    ("a map and a larger one", {"a": 1}, {"a": 1, "b": 0}),
    ("maps by their least keys", {"c": 0, "a": 1}, {"b": 0}),
]
for text, low, high in RISING:
    case(f"less: {text}", True, op("less", low, high))
    case(f"less, falling: {text}", False, op("less", high, low))
for text, low, high in RISING[::3]:
    case(f"less_or_equal: {text}", True, op("less_or_equal", low, high))
    case(f"greater: {text}", False, op("greater", low, high))
    case(f"greater_or_equal: {text}", False, op("greater_or_equal", low, high))
for text, low, high in RISING[1::3]:
    case(f"less_or_equal, falling: {text}", False, op("less_or_equal", high, low))
    case(f"greater, falling: {text}", True, op("greater", high, low))
    case(f"greater_or_equal, falling: {text}", True, op("greater_or_equal", high, low))
for text, a, b in [
    ("equal numbers of different types", 2, 2.0),
    ("maps with another order of keys", {"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ("equal lists", [1, "a", None], [1.0, "a", None]),
    ("nulls", None, None),
]:
    case(f"less of equals: {text}", False, op("less", a, b))
    case(f"less_or_equal of equals: {text}", True, op("less_or_equal", a, b))
    case(f"greater of equals: {text}", False, op("greater", a, b))
    case(f"greater_or_equal of equals: {text}", True, op("greater_or_equal", a, b))

# ---------------------------------------------------------------- strict

family("strict")

# Of one kind: what Python compares with `<`, but for bools, which are no numbers.
STRICT_PAIRS = [
    ("ints", 3, 4), ("equal ints", 3, 3), ("an int and a float", 2, 1.5), ("1 and 1.0", 1, 1.0),
    ("2^53 + 1 and the float 2^53", 2**53 + 1, 9007199254740992.0),
    ("strings", "a\uff5e", "a😀"), ("equal strings", "", ""),
    ("lists", [1, 2.5], [1, 3]), ("a list and a longer one", [1], [1, 2]), ("empty lists", [], []),
    ("lists of lists", [["a"], ["b"]], [["a"], ["c"]]),
]
for text, a, b in STRICT_PAIRS:
    case(f"strict.equal: {text}", a == b, op("strict.equal", a, b))
    case(f"strict.not_equal: {text}", a != b, op("strict.not_equal", a, b))
    case(f"strict.less: {text}", a < b, op("strict.less", a, b))
    case(f"strict.less_or_equal: {text}", a <= b, op("strict.less_or_equal", a, b))
    case(f"strict.greater: {text}", a > b, op("strict.greater", a, b))
    case(f"strict.greater_or_equal: {text}", a >= b, op("strict.greater_or_equal", a, b))

# Nothing else is compared: values of a job, so that it is the evaluation that finds it.
STRICT_WRONG = [
    ("null and an int", None, 10), ("an int and null", 10, None), ("null and null", None, None),
    ("a float and a string", 1.5, "1.5"), ("a string and a list", "a", ["a"]), ("a bool and an int", True, 1),
    ("bools", False, True), ("maps", {"a": 1}, {"a": 2}),
    ("lists, one with a null", [1, None], [1, 2]), ("lists of other kinds", ["a"], [1]),
]
for text, a, b in STRICT_WRONG:
    for name in ("equal", "not_equal", "less", "less_or_equal", "greater", "greater_or_equal"):
        fails(f"strict.{name}: {text}", "wrong_type", op(f"strict.{name}", inp("a"), inp("b")), a=a, b=b)
    for name in ("minimum", "maximum"):
        fails(f"strict.{name}: {text}", "wrong_type", op(f"strict.{name}", inp("a"), inp("b")), a=a, b=b)
    for name in ("min", "max", "sort"):
        fails(f"strict.{name}: {text}", "wrong_type", op(f"strict.{name}", lst(inp("a"), inp("b"))), a=a, b=b)

case("strict.minimum", lambda: min(3, 1.5, 2), op("strict.minimum", 3, 1.5, 2))
case("strict.minimum gives the first of equal ones", lambda: min(1.0, 1), op("strict.minimum", 1.0, 1))
case("strict.maximum of strings", lambda: max("a", "b", "B"), op("strict.maximum", "a", "b", "B"))
case("strict.maximum of one", lambda: max([7]), op("strict.maximum", 7))
fails("strict.minimum of null alone", "wrong_type", op("strict.minimum", inp("n")), n=None)
case("strict.min", lambda: min([3, 1.5, 2]), op("strict.min", [3, 1.5, 2]))
case("strict.max gives the first of equal ones", lambda: max([1, 1.0]), op("strict.max", [1, 1.0]))
fails("strict.min of an empty list", "empty", op("strict.min", []))
fails("strict.max of an empty list", "empty", op("strict.max", []))
fails("strict.min of null alone", "wrong_type", op("strict.min", [None]))
fails("strict.max of a list that is null", "wrong_type", op("strict.max", inp("n")), n=None)
case("strict.sort", lambda: sorted([3, -1, 2.5, 0]), op("strict.sort", [3, -1, 2.5, 0]))
case("strict.sort an empty list", lambda: sorted([]), op("strict.sort", []))
case("strict.sort is stable, descending too", lambda: sorted([1.0, 2, 1, 2.0], reverse=True), op("strict.sort", [1.0, 2, 1, 2.0], True))
case("strict.sort lists", lambda: sorted([[2], [1, 2], [], [1]]), op("strict.sort", [[2], [1, 2], [], [1]]))
case("strict.sort by a key", lambda: sorted(["ccc", "a", "bb"], key=len), op("strict.sort", ["ccc", "a", "bb"], body=lambda x: op("length", x)))
case("strict.sort by a key, descending, keeps nulls that are no keys", lambda: sorted([[1, None], [2, None]], key=lambda x: x[0], reverse=True), op("strict.sort", [[1, None], [2, None]], True, body=lambda x: op("get", x, 0)))
fails("strict.sort of null alone", "wrong_type", op("strict.sort", [None]))
fails("strict.sort by a key that is null", "wrong_type", op("strict.sort", [{"loss": 0.5}, {"loss": None}], body=lambda x: op("get", x, "loss")))
fails("strict.sort by keys of two kinds", "wrong_type", op("strict.sort", [[1], ["a"], [2]], body=lambda x: op("get", x, 0)))

# ---------------------------------------------------------------- numbers

family("numbers")

case("add ints", lambda: 2 + 3, op("add", 2, 3))
case("add floats", lambda: 0.1 + 0.2, op("add", 0.1, 0.2))
case("add an int and a float", lambda: 1 + 0.5, op("add", 1, 0.5))
case("add an int and a float without a fraction gives a float", lambda: 1 + 2.0, op("add", 1, 2.0))
case("add up to the greatest int", lambda: (U64_MAX - 1) + 1, op("add", U64_MAX - 1, 1))
case("add across 2^63", lambda: I64_MAX + 1, op("add", I64_MAX, 1))
case("add the limits of ints", lambda: U64_MAX + I64_MIN, op("add", U64_MAX, I64_MIN))
case("add keeps ints above 2^53 exact", lambda: 2**53 + 1, op("add", 2**53, 1))
case("add converts the int to float first", lambda: float(2**53 + 1) + 1.0, op("add", 2**53 + 1, 1.0))
fails("add beyond the greatest int", "overflow", op("add", U64_MAX, 1))
fails("add beyond the least int", "overflow", op("add", I64_MIN, -1))
fails("add floats beyond the greatest float", "overflow", op("add", 1e308, 1e308))
fails("add to an integer beyond 64 bits", "overflow", op("add", inp("a"), 1), a=U64_MAX + 1)
fails("add to an integer far below 64 bits", "overflow", op("add", inp("a"), 1), a=-(10**40))

case("subtract ints", lambda: 2 - 5, op("subtract", 2, 5))
case("subtract floats", lambda: 0.5 - 0.25, op("subtract", 0.5, 0.25))
case("subtract a float from an int", lambda: 3 - 0.5, op("subtract", 3, 0.5))
case("subtract down to the least int", lambda: 0 - 2**63, op("subtract", 0, 2**63))
case("subtract the greatest int from itself", lambda: U64_MAX - U64_MAX, op("subtract", U64_MAX, U64_MAX))
case("subtract a negative int across 2^63", lambda: I64_MAX - I64_MIN, op("subtract", I64_MAX, I64_MIN))
fails("subtract beyond the least int", "overflow", op("subtract", 0, 2**63 + 1))
fails("subtract beyond the greatest int", "overflow", op("subtract", U64_MAX, -1))
fails("subtract floats beyond the least float", "overflow", op("subtract", -1e308, 1e308))

case("multiply ints", lambda: -4 * 6, op("multiply", -4, 6))
case("multiply by zero", lambda: U64_MAX * 0, op("multiply", U64_MAX, 0))
case("multiply an int by a float", lambda: 3 * 0.5, op("multiply", 3, 0.5))
case("multiply up to 2^63", lambda: 2**32 * 2**31, op("multiply", 2**32, 2**31))
case("multiply down to the least int", lambda: -(2**62) * 2, op("multiply", -(2**62), 2))
case("multiply up to 2^64 - 2", lambda: I64_MAX * 2, op("multiply", I64_MAX, 2))
case("multiply negative ints", lambda: I64_MIN * -1, op("multiply", I64_MIN, -1))
fails("multiply up to 2^64", "overflow", op("multiply", 2**32, 2**32))
fails("multiply the greatest int by -1", "overflow", op("multiply", U64_MAX, -1))
fails("multiply the limits of ints", "overflow", op("multiply", U64_MAX, U64_MAX))
fails("multiply floats beyond the greatest float", "overflow", op("multiply", 1e200, 1e200))

case("divide ints", lambda: 7 / 2, op("divide", 7, 2))
case("divide ints without a rest gives a float", lambda: 6 / 3, op("divide", 6, 3))
case("divide ints to a periodic fraction", lambda: 1 / 3, op("divide", 1, 3))
case("divide zero", lambda: 0 / 5, op("divide", 0, 5))
case("divide by a negative float", lambda: 1 / -0.25, op("divide", 1, -0.25))
fails("divide by zero", "division_by_zero", op("divide", 1, 0))
fails("divide by the float zero", "division_by_zero", op("divide", 1.5, 0.0))
fails("divide zero by zero", "division_by_zero", op("divide", 0.0, 0))
fails("divide floats beyond the greatest float", "overflow", op("divide", 1e308, 0.001))

for a, b in [(7, 2), (-7, 2), (7, -2), (-7, -2), (6, 3), (0, 5), (7.5, 2), (-7.5, 2), (7, 2.0), (5.5, -2.0), (-1, 3), (1, -3)]:
    case(f"integer_divide {a} by {b}", lambda: a // b, op("integer_divide", a, b))
    case(f"modulo {a} by {b}", lambda: a % b, op("modulo", a, b))
case("integer_divide the greatest int", lambda: U64_MAX // 10, op("integer_divide", U64_MAX, 10))
case("integer_divide the least int by -1", lambda: I64_MIN // -1, op("integer_divide", I64_MIN, -1))
case("integer_divide the least int by the greatest", lambda: I64_MIN // U64_MAX, op("integer_divide", I64_MIN, U64_MAX))
case("modulo of the greatest int", lambda: U64_MAX % 10, op("modulo", U64_MAX, 10))
case("modulo of the least int", lambda: I64_MIN % 10, op("modulo", I64_MIN, 10))
case("modulo of the least int by -1", lambda: I64_MIN % -1, op("modulo", I64_MIN, -1))
case("modulo of -1 by the greatest int", lambda: -1 % U64_MAX, op("modulo", -1, U64_MAX))
case("modulo of the greatest int by the least", lambda: U64_MAX % I64_MIN, op("modulo", U64_MAX, I64_MIN))
fails("integer_divide by zero", "division_by_zero", op("integer_divide", 1, 0))
fails("integer_divide by the float zero", "division_by_zero", op("integer_divide", 1, 0.0))
fails("integer_divide the greatest int by -1", "overflow", op("integer_divide", U64_MAX, -1))
fails("modulo by zero", "division_by_zero", op("modulo", 1, 0))
fails("modulo by the float zero", "division_by_zero", op("modulo", 1.5, 0.0))

case("negate an int", lambda: -(5), op("negate", 5))
case("negate a float", lambda: -(-1.5), op("negate", -1.5))
case("negate zero", lambda: -(0), op("negate", 0))
case("negate the least int", lambda: -I64_MIN, op("negate", I64_MIN))
case("negate 2^63", lambda: -(2**63), op("negate", 2**63))
fails("negate 2^63 + 1", "overflow", op("negate", 2**63 + 1))
fails("negate the greatest int", "overflow", op("negate", U64_MAX))
case("absolute of a negative int", lambda: abs(-5), op("absolute", -5))
case("absolute of a positive int", lambda: abs(5), op("absolute", 5))
case("absolute of a negative float", lambda: abs(-2.5), op("absolute", -2.5))
case("absolute of the least int", lambda: abs(I64_MIN), op("absolute", I64_MIN))
case("absolute of the greatest int", lambda: abs(U64_MAX), op("absolute", U64_MAX))

for value in [1.5, -1.5, 2.0, -0.5, 0.0]:
    case(f"floor of {value}", lambda: math.floor(value), op("floor", value))
    case(f"ceil of {value}", lambda: math.ceil(value), op("ceil", value))
case("floor of an int above 2^53", lambda: math.floor(2**53 + 1), op("floor", 2**53 + 1))
case("ceil of the greatest int", lambda: math.ceil(U64_MAX), op("ceil", U64_MAX))
fails("floor of a float beyond ints", "overflow", op("floor", 1e300))
fails("ceil of a float below ints", "overflow", op("ceil", -1e300))

for value in [0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 2.4, 2.6, -2.6, 3.0, 7, 4503599627370495.5]:
    case(f"round {value}", lambda: round(value), op("round", value))
for value, digits in [(1.25, 1), (1.35, 1), (2.675, 2), (5.015, 2), (-1.005, 2), (1.5, 0), (2.5, 0), (0.125, 2), (0.1, 22), (3.14159, 3), (1234, 2), (U64_MAX, 0), (-5, 22)]:
    case(f"round {value} to {digits} digits", lambda: round(value, digits), op("round", value, digits))
fails("round a float beyond ints", "overflow", op("round", 1e300))
fails("round to -1 digits", "invalid_value", op("round", 12.5, -1))
fails("round to 23 digits", "invalid_value", op("round", 12.5, 23))

for a, b in [(2, 10), (2, 63), (-2, 63), (-2, 3), (3, 40), (-3, 39), (0, 0), (0, 5), (7, 1), (1, I64_MAX), (-1, I64_MAX), (U64_MAX, 1),
             (2, -2), (-2, -3), (1, -1), (2.5, 2), (9, 0.5), (0.0, 0), (-2.0, 3.0), (-8, 2.0), (4.0, -1)]:
    case(f"power of {a} to {b}", lambda: a**b, op("power", a, b))
fails("power of 2 to 64", "overflow", op("power", 2, 64))
fails("power of 3 to 41", "overflow", op("power", 3, 41))
fails("power of -2 to 65", "overflow", op("power", -2, 65))
fails("power to a large exponent", "overflow", op("power", 2, I64_MAX))
fails("power of floats beyond the greatest float", "overflow", op("power", 10.0, 400))
fails("power of 0 to a negative int", "division_by_zero", op("power", 0, -1))
fails("power of a negative float to a fraction", "invalid_value", op("power", -8.0, 0.5))
fails("power of a negative int to a fraction", "invalid_value", op("power", -8, 0.5))

case("minimum of ints", lambda: min(3, 1, 2), op("minimum", 3, 1, 2))
case("minimum of one", lambda: 3, op("minimum", 3))
case("minimum of an int and an equal float gives the first", lambda: min(1, 1.0), op("minimum", 1, 1.0))
case("minimum of a float and an equal int gives the first", lambda: min(1.0, 1), op("minimum", 1.0, 1))
case("minimum of strings", lambda: min("b", "B"), op("minimum", "b", "B"))
case("minimum of different types", None, op("minimum", "a", 1, None, []))  # by the total order
case("minimum of a bool and a number", True, op("minimum", -5, True))  # bools are before numbers
case("minimum of the limits of ints", lambda: min(U64_MAX, I64_MIN), op("minimum", U64_MAX, I64_MIN))
case("maximum of ints and floats", lambda: max(3, 3.5, 2), op("maximum", 3, 3.5, 2))
case("maximum of one", lambda: "x", op("maximum", "x"))
case("maximum of an int and an equal float gives the first", lambda: max(1, 1.0), op("maximum", 1, 1.0))
case("maximum of a float and an equal int gives the first", lambda: max(1.0, 1), op("maximum", 1.0, 1))
case("maximum of different types", {}, op("maximum", "a", [9], {}, 1))  # by the total order
case("maximum of lists", lambda: max([1, 2], [1, 2, 0]), op("maximum", [1, 2], [1, 2, 0]))
case("maximum of neighbours at the greatest int", lambda: max(U64_MAX - 1, U64_MAX), op("maximum", U64_MAX - 1, U64_MAX))

# ---------------------------------------------------------------- conversions

family("conversions")

for value in [True, False, 5, 1.9, -1.9, 0.0, -0.5, 9007199254740992.0]:
    case(f"to_int of {json.dumps(value)}", lambda: int(value), op("to_int", value))
for text in ["42", "-7", "+7", "007", "-0", "  42\t", "\n-1\r\n", str(U64_MAX), str(I64_MIN), str(2**53 + 1)]:
    case(f"to_int of the string {json.dumps(text)}", lambda: int(text), op("to_int", text))
case("to_int of the greatest int", lambda: int(U64_MAX), op("to_int", U64_MAX))
for text in ["", " ", "a", "1.5", "1e3", "0x10", "12 34", "--5", "+", "- 5", "5-", "1_000", "1,000"]:  # Python takes 1_000
    fails(f"to_int of the string {json.dumps(text)}", "invalid_value", op("to_int", text))
fails("to_int of a float beyond ints", "overflow", op("to_int", 1e300))
fails("to_int of a float below ints", "overflow", op("to_int", -1e20))

for value in [True, False, 5, -5, 1.5, 2**53 + 1]:
    case(f"to_float of {json.dumps(value)}", lambda: float(value), op("to_float", value))
for text in ["1.5", "3", "-2.5e3", "1E2", "+0.5", "0.1", "100", "-0.0", "25e-1"]:
    case(f"to_float of the string {json.dumps(text)}", lambda: float(text), op("to_float", text))
for text in ["", "a", "1.5x", "nan", "NaN", "inf", "-inf", "infinity", "1.5.2", "1,5", "0x1p3", "1_0.5", "e5", "--1.5"]:  # Python takes nan, inf, 1_0.5
    fails(f"to_float of the string {json.dumps(text)}", "invalid_value", op("to_float", text))
fails("to_float of a string beyond the greatest float", "overflow", op("to_float", "1e400"))

case("to_string of a string", "a \"b\" 😀", op("to_string", "a \"b\" 😀"))
case("to_string of the empty string", "", op("to_string", ""))
for value in [None, True, False, 0, -5, U64_MAX, I64_MIN, 1.5, 2.0, -0.25, 0.1, 100000.0, 0.0001,
              [], {}, [1, "a"], {"a": 1}, {"b": [1, None], "a": {"c": 2.5}}, ["a\"b\\c\n\t/"], {"a b": [[], {}]}, [""]]:
    case(f"to_string of {json.dumps(value)}", lambda: compact(value), op("to_string", value))

for text, value in [("null", None), ("false", False), ("0", 0), ("0.0", 0.0), ("-0.0", -0.0), ("an empty string", ""),
                    ("an empty list", []), ("an empty map", {}), ("true", True), ("-1", -1), ("0.5", 0.5),
                    ("the string 0", "0"), ("the string false", "false"), ("a blank", " "), ("a list of 0", [0]),
                    ("a list of an empty list", [[]]), ("a map with null", {"a": None})]:
    case(f"to_bool of {text}", lambda: bool(value), op("to_bool", value))

# ---------------------------------------------------------------- lists

family("lists")


def changed(values, change):
    """The list after a method of Python's list has changed it."""
    values = list(values)
    change(values)
    return values


def assigned(values, index, item):
    values = list(values)
    values[index] = item
    return values


def deleted(values, index):
    values = list(values)
    del values[index]
    return values


ABC = ["a", "b", "c"]

case("list.append", lambda: ABC + ["d"], op("list.append", ABC, "d"))
case("list.append to an empty list", lambda: [] + [None], op("list.append", [], None))
case("list.append appends a list as one element", lambda: [1] + [[2, 3]], op("list.append", [1], [2, 3]))
case("list.append leaves its operand as it was", lambda: [ABC, ABC + [1], ABC + [2]], (lambda xs: lst(xs, op("list.append", xs, 1), op("list.append", xs, 2)))(lit(ABC)))
case("list.append an int at the upper limit", lambda: [I64_MIN] + [U64_MAX], op("list.append", [I64_MIN], U64_MAX))
case("list.extend", lambda: ABC + [1, [2]], op("list.extend", ABC, [1, [2]]))
case("list.extend by an empty list", lambda: ABC + [], op("list.extend", ABC, []))
case("list.extend an empty list", lambda: [] + ABC, op("list.extend", [], ABC))
case("list.extend a list by itself", lambda: ABC + ABC, (lambda xs: op("list.extend", xs, xs))(lit(ABC)))
for index in [0, 1, 3, 9, -1, -3, -9, U64_MAX, I64_MIN]:
    # Python's insert takes indexes up to 2^63 - 1; above, it clamps all the same.
    case(f"list.insert at {index}", lambda: changed(ABC, lambda xs: xs.insert(min(index, I64_MAX), "x")), op("list.insert", ABC, index, "x"))
case("list.insert into an empty list", lambda: ["x"], op("list.insert", [], -1, "x"))
for index in [0, 2, -1, -3]:
    case(f"list.set at {index}", lambda: assigned(ABC, index, "x"), op("list.set", ABC, index, "x"))
    case(f"list.delete at {index}", lambda: deleted(ABC, index), op("list.delete", ABC, index))
    case(f"list.pop at {index}", lambda: list(ABC).pop(index), op("list.pop", ABC, index))
for index in [3, -4, U64_MAX]:
    fails(f"list.set at {index}", "bad_index", op("list.set", ABC, index, "x"))
    fails(f"list.delete at {index}", "bad_index", op("list.delete", ABC, index))
    fails(f"list.pop at {index}", "bad_index", op("list.pop", ABC, index))
fails("list.set in an empty list", "bad_index", op("list.set", [], 0, "x"))
fails("list.delete from an empty list", "bad_index", op("list.delete", [], 0))
case("list.delete the only element", lambda: deleted([1], 0), op("list.delete", [1], 0))
case("list.pop without an index", lambda: list(ABC).pop(), op("list.pop", ABC))
fails("list.pop of an empty list", "empty", op("list.pop", []))
case("list.remove the first equal element", lambda: changed([1, 2, 1, 2], lambda xs: xs.remove(2)), op("list.remove", [1, 2, 1, 2], 2))
case("list.remove an equal float", lambda: changed([1, 2.0], lambda xs: xs.remove(2)), op("list.remove", [1, 2.0], 2))
case("list.remove does not take 1 for true", [1], op("list.remove", [1, True], True))  # a bool is no number
case("list.remove an equal map", lambda: changed([1, {"a": 1, "b": 2}], lambda xs: xs.remove({"b": 2, "a": 1})), op("list.remove", [1, {"a": 1, "b": 2}], {"b": 2, "a": 1}))
fails("list.remove what is not there", "not_found", op("list.remove", ABC, "d"))
fails("list.remove from an empty list", "not_found", op("list.remove", [], None))
fails("list.remove true from a list with 1", "not_found", op("list.remove", [1], True))

case("list.reverse", lambda: ABC[::-1], op("list.reverse", ABC))
case("list.reverse of an empty list", lambda: [][::-1], op("list.reverse", []))
case("list.reverse leaves nested lists", lambda: [[1, 2], [3]][::-1], op("list.reverse", [[1, 2], [3]]))
case("list.sort ints", lambda: sorted([3, -1, 2, 0]), op("list.sort", [3, -1, 2, 0]))
case("list.sort an empty list", lambda: sorted([]), op("list.sort", []))
case("list.sort ints and floats", lambda: sorted([2, 1.5, -0.5, 1]), op("list.sort", [2, 1.5, -0.5, 1]))
case("list.sort is stable", lambda: sorted([2, 1.0, 1, 2.0, 0]), op("list.sort", [2, 1.0, 1, 2.0, 0]))
case("list.sort descending", lambda: sorted([3, -1, 2], reverse=True), op("list.sort", [3, -1, 2], True))
case("list.sort descending keeps the order of equals", lambda: sorted([1.0, 2, 1, 2.0], reverse=True), op("list.sort", [1.0, 2, 1, 2.0], True))
case("list.sort with descending false", lambda: sorted([3, -1, 2]), op("list.sort", [3, -1, 2], False))
case("list.sort strings by code point", lambda: sorted(["b", "😀", "a", "\uff5e", "Z", "é", ""]), op("list.sort", ["b", "😀", "a", "\uff5e", "Z", "é", ""]))
case("list.sort lists", lambda: sorted([[2], [1, 2], [], [1]]), op("list.sort", [[2], [1, 2], [], [1]]))
case("list.sort ints at the limits", lambda: sorted([U64_MAX, 0, I64_MAX, I64_MIN, 2**63]), op("list.sort", [U64_MAX, 0, I64_MAX, I64_MIN, 2**63]))
# The total order over all types.
case("list.sort values of all types", [None, False, True, -1, 0.5, 1, "", "a", [], [None], {}, {"a": 1}], op("list.sort", [{"a": 1}, [None], "a", 1, {}, True, None, [], "", 0.5, False, -1]))
case("list.sort maps", [{"a": 1}, {"c": 0, "a": 2}, {"b": 0}], op("list.sort", [{"b": 0}, {"c": 0, "a": 2}, {"a": 1}]))
case("list.unique", lambda: list(dict.fromkeys([3, 1, 3, 2, 1])), op("list.unique", [3, 1, 3, 2, 1]))
case("list.unique keeps the first of equals", [1, True, 2.0, "1", None], op("list.unique", [1, 1.0, True, 2.0, 2, "1", None, None]))  # a bool is no number
case("list.unique of lists and maps", [[1], {"a": 1, "b": 2}], op("list.unique", [[1], {"a": 1, "b": 2}, [1.0], {"b": 2, "a": 1}]))
case("list.unique of an empty list", [], op("list.unique", []))

case("list.concat", lambda: [1] + [] + [2, [3]], op("list.concat", [1], [], [2, [3]]))
case("list.concat of one list", lambda: ABC, op("list.concat", ABC))
for count in [2, 1, 0, -1]:
    case(f"list.repeat {count} times", lambda: [1, [2]] * count, op("list.repeat", [1, [2]], count))
case("list.repeat an empty list", lambda: [] * 3, op("list.repeat", [], 3))
case("list.flatten", lambda: sum([[1], [], [2, 3]], []), op("list.flatten", [[1], [], [2, 3]]))
case("list.flatten goes down one level", lambda: sum([[1, [2]], [[3]]], []), op("list.flatten", [[1, [2]], [[3]]]))
case("list.flatten an empty list", [], op("list.flatten", []))
fails("list.flatten an element that is no list", "wrong_type", op("list.flatten", [[1], 2]))
fails("list.flatten a string in a list", "wrong_type", op("list.flatten", ["ab"]))
case("list.zip", lambda: [list(row) for row in zip([1, 2], ["a", "b"])], op("list.zip", [1, 2], ["a", "b"]))
case("list.zip to the shortest", lambda: [list(row) for row in zip([1, 2, 3], ["a"], [True, False])], op("list.zip", [1, 2, 3], ["a"], [True, False]))
case("list.zip with an empty list", lambda: [list(row) for row in zip([1, 2], [])], op("list.zip", [1, 2], []))
case("list.zip of one list", lambda: [list(row) for row in zip([1, 2])], op("list.zip", [1, 2]))
case("list.enumerate", lambda: [list(row) for row in enumerate(ABC)], op("list.enumerate", ABC))
case("list.enumerate from a start", lambda: [list(row) for row in enumerate(ABC, 10)], op("list.enumerate", ABC, 10))
case("list.enumerate from a negative start", lambda: [list(row) for row in enumerate(ABC, -1)], op("list.enumerate", ABC, -1))
case("list.enumerate an empty list", lambda: [], op("list.enumerate", [], 5))
for bounds in [(0, 5), (2, 5), (3, 3), (5, 0), (-2, 2)]:
    case(f"list.range from {bounds[0]} to {bounds[1]}", lambda: list(range(*bounds)), op("list.range", *bounds))
for bounds in [(0, 10, 3), (5, 0, -1), (10, 0, -4), (0, 5, -1), (0, 3, 100), (I64_MAX - 1, I64_MAX + 2, 1), (U64_MAX - 1, U64_MAX, 5), (I64_MIN + 1, I64_MIN, -9)]:
    case("list.range from {} to {} by {}".format(*bounds), lambda: list(range(*bounds)), op("list.range", *bounds))
fails("list.range with step 0", "invalid_value", op("list.range", 0, 5, 0))

case("list.sum of ints", lambda: sum([1, 2, 3]), op("list.sum", [1, 2, 3]))
case("list.sum of an empty list", lambda: sum([]), op("list.sum", []))
case("list.sum goes from left to right", lambda: (0.1 + 0.2) + 0.3, op("list.sum", [0.1, 0.2, 0.3]))
case("list.sum of ints and floats", lambda: (1 + 2) + 0.5, op("list.sum", [1, 2, 0.5]))
case("list.sum up to the greatest int", lambda: sum([U64_MAX, I64_MIN, 2**63]), op("list.sum", [U64_MAX, I64_MIN, 2**63]))
fails("list.sum beyond the greatest int", "overflow", op("list.sum", [U64_MAX, 1]))
fails("list.sum that leaves the ints on the way", "overflow", op("list.sum", [U64_MAX, 1, -1]))
fails("list.sum of floats beyond the greatest float", "overflow", op("list.sum", [1e308, 1e308]))
case("list.min of ints", lambda: min([3, 1, 2]), op("list.min", [3, 1, 2]))
case("list.min of one element", lambda: min([[]]), op("list.min", [[]]))
case("list.min of different types", False, op("list.min", ["a", 0, False, {}]))  # by the total order
case("list.max of ints and floats", lambda: max([3, 3.5, 2]), op("list.max", [3, 3.5, 2]))
case("list.max of strings", lambda: max(["a", "😀", "\uff5e"]), op("list.max", ["a", "😀", "\uff5e"]))
case("list.max of different types", [1], op("list.max", ["a", 0, [1], None]))  # by the total order
case("list.max at the greatest int", lambda: max([I64_MAX, U64_MAX, I64_MIN]), op("list.max", [I64_MAX, U64_MAX, I64_MIN]))
case("list.mean of ints", lambda: sum([1, 2]) / 2, op("list.mean", [1, 2]))
case("list.mean without a fraction gives a float", lambda: sum([2, 4]) / 2, op("list.mean", [2, 4]))
case("list.mean of ints and floats", lambda: ((1 + 2.5) + 4) / 3, op("list.mean", [1, 2.5, 4]))
case("list.mean of one element", lambda: -3 / 1, op("list.mean", [-3]))
fails("list.min of an empty list", "empty", op("list.min", []))
fails("list.max of an empty list", "empty", op("list.max", []))
fails("list.mean of an empty list", "empty", op("list.mean", []))

case("list.index_of", lambda: ABC.index("b"), op("list.index_of", ABC, "b"))
case("list.index_of the first equal element", lambda: [1, 2, 2.0].index(2.0), op("list.index_of", [1, 2, 2.0], 2.0))
case("list.index_of what is not there", None, op("list.index_of", ABC, "d"))  # Python raises ValueError
case("list.index_of true among numbers", 2, op("list.index_of", [0, 1, True], True))  # a bool is no number
case("list.index_of in an empty list", None, op("list.index_of", [], None))
case("list.index_of a list", lambda: [[1], [1, 2]].index([1, 2]), op("list.index_of", [[1], [1, 2]], [1, 2]))
case("list.count", lambda: ["a", "b", "a"].count("a"), op("list.count", ["a", "b", "a"], "a"))
case("list.count of equal numbers", lambda: [1, 1.0, 2].count(1), op("list.count", [1, 1.0, 2], 1))
case("list.count does not take true for 1", 1, op("list.count", [1, True], 1))  # a bool is no number
case("list.count of what is not there", lambda: ABC.count("d"), op("list.count", ABC, "d"))
for text, values in [("false values", [0, "", None, [], {}, False, 0.0]), ("a true value", [0, "", "0"]), ("true values", [1, "a", [0], True]), ("no values", [])]:
    case(f"list.any of {text}", lambda: any(values), op("list.any", values))
    case(f"list.all of {text}", lambda: all(values), op("list.all", values))

# ---------------------------------------------------------------- slices

family("slices")

FIVE = [0, 1, 2, 3, 4]
for start, stop in [(1, -1), (None, None), (0, 3), (2, None), (None, 2), (-2, None), (None, -2), (-4, -2), (3, 1), (2, 2), (0, 99),
                    (99, None), (-99, 2), (-99, 99), (5, 5), (I64_MIN, U64_MAX), (U64_MAX, None)]:
    case(f"slice a list from {json.dumps(start)} to {json.dumps(stop)}", lambda: FIVE[start:stop], op("slice", FIVE, start, stop))
for start, stop, step in [(None, None, 2), (None, None, -1), (1, None, 3), (None, None, -2), (4, 0, -2), (0, 4, -1), (-1, -5, -1), (None, 2, -1),
                          (2, None, -1), (99, None, -2), (None, -99, -1), (1, 4, 1), (1, 4, None), (None, None, 99), (None, None, I64_MAX),
                          (None, None, I64_MIN)]:
    case(f"slice a list from {json.dumps(start)} to {json.dumps(stop)} by {json.dumps(step)}", lambda: FIVE[start:stop:step], op("slice", FIVE, start, stop, step))
SMILE = "a😀bé𝄞"
for start, stop, step in [(1, -1, 1), (0, 2, 1), (2, None, 1), (-1, None, 1), (None, None, -1), (None, None, 2), (3, 1, 1), (99, None, 1)]:
    case(f"slice a string from {json.dumps(start)} to {json.dumps(stop)} by {json.dumps(step)}", lambda: SMILE[start:stop:step], op("slice", SMILE, start, stop, step))
case("slice an empty list", lambda: [][1:-1], op("slice", [], 1, -1))
case("slice the empty string", lambda: ""[0:5], op("slice", "", 0, 5))
case("slice a list of one element without its ends", lambda: [1][1:-1], op("slice", [1], 1, -1))
case("slice nested lists", lambda: [[1, 2], [3], [4]][1:], op("slice", [[1, 2], [3], [4]], 1, None))
case("slice a slice", lambda: FIVE[1:][:2], op("slice", op("slice", FIVE, 1, None), None, 2))
case("slice with computed bounds", lambda: FIVE[5 - 3:5 - 1], (lambda n: op("slice", FIVE, op("subtract", n, 3), op("subtract", n, 1)))(op("length", FIVE)))
fails("slice a list with step 0", "invalid_value", op("slice", FIVE, None, None, 0))
fails("slice a string with step 0", "invalid_value", op("slice", "abc", 0, 2, 0))

# ---------------------------------------------------------------- bodies

family("bodies")

case("list.map", lambda: [x * 2 for x in [1, 2, 3]], op("list.map", [1, 2, 3], body=lambda x: op("multiply", x, 2)))
case("list.map over an empty list", [], op("list.map", [], body=lambda x: op("multiply", x, 2)))
case("list.map does not compute its body for an empty list", [], op("list.map", [], body=lambda x: boom()))
case("list.map gives its element", lambda: list(ABC), op("list.map", ABC, body=lambda x: x))
case("list.map gives a literal", lambda: [None for _ in ABC], op("list.map", ABC, body=lambda x: lit(None)))
case("list.map gives lists", lambda: [[x, 1] for x in ABC], op("list.map", ABC, body=lambda x: lst(x, 1)))
case("list.map gives maps", lambda: [{"name": x, "size": len(x)} for x in ["a", "bc"]], op("list.map", ["a", "bc"], body=lambda x: mp(name=x, size=op("length", x))))
case("list.map with a captured value", lambda: [x + 10 for x in [1, 2]], op("list.map", [1, 2], 10, body=lambda x, n: op("add", x, n)))
case("list.map with a captured input", lambda: ["/out" + "/" + x for x in ABC], op("list.map", ABC, inp("directory"), body=lambda x, d: op("string.concat", d, "/", x)), directory="/out")
case("list.map with two captured values", lambda: [2 * x + 1 for x in [1, 2]], op("list.map", [1, 2], 2, 1, body=lambda x, a, b: op("add", op("multiply", a, x), b)))
case("list.map with a captured value that is not used", lambda: list(ABC), op("list.map", ABC, 1, body=lambda x, n: x))
case("list.map with a captured list", lambda: [ABC[i] for i in [2, 0]], op("list.map", [2, 0], ABC, body=lambda i, xs: op("get", xs, i)))
case("list.map of a body that uses its input twice", lambda: [x * x for x in [3, 4]], op("list.map", [3, 4], body=lambda x: op("multiply", x, x)))
case("list.map with a lazy operation in the body", lambda: [6 / x if x else None for x in [2, 0]], op("list.map", [2, 0], body=lambda x: op("select", x, op("divide", 6, x), None)))
case("list.map in list.map", lambda: [[x + 1 for x in row] for row in [[1, 2], [], [3]]], op("list.map", [[1, 2], [], [3]], body=lambda row: op("list.map", row, body=lambda x: op("add", x, 1))))
case("list.map in list.map with a value captured twice", lambda: [[x + 10 for x in row] for row in [[1, 2], [3]]],
     op("list.map", [[1, 2], [3]], 10, body=lambda row, n: op("list.map", row, n, body=lambda x, k: op("add", x, k))))
case("list.map in list.map with the outer element captured", lambda: [[x * y for y in [1, 2, 3]] for x in [1, 2]],
     op("list.map", [1, 2], [1, 2, 3], body=lambda x, ys: op("list.map", ys, x, body=lambda y, k: op("multiply", k, y))))
case("three levels of list.map", lambda: [[[x + 1 for x in b] for b in a] for a in [[[1], [2, 3]], []]],
     op("list.map", [[[1], [2, 3]], []], body=lambda a: op("list.map", a, body=lambda b: op("list.map", b, body=lambda x: op("add", x, 1)))))
case("list.map over list.enumerate", lambda: [f"{i}: {x}" for i, x in enumerate(ABC)], op("list.map", op("list.enumerate", ABC), body=lambda row: op("string.format", "{}: {}", op("get", row, 0), op("get", row, 1))))
fails("list.map whose body fails", "division_by_zero", op("list.map", [1, 0], body=lambda x: op("divide", 1, x)))
fails("list.map whose body fails on a missing key", "missing_key", op("list.map", [{"a": 1}, {}], body=lambda x: op("get", x, "a")))
fails("list.map whose inner body fails", "bad_index", op("list.map", [[[1]], [[]]], body=lambda row: op("list.map", row, body=lambda x: op("get", x, 0))))

case("list.filter", lambda: [x for x in [1, 2, 3, 4] if x > 2], op("list.filter", [1, 2, 3, 4], body=lambda x: op("greater", x, 2)))
case("list.filter keeps none", lambda: [x for x in ABC if False], op("list.filter", ABC, body=lambda x: lit(False)))
case("list.filter keeps all", lambda: [x for x in ABC if True], op("list.filter", ABC, body=lambda x: lit(True)))
case("list.filter of an empty list", [], op("list.filter", [], body=lambda x: lit(1)))
case("list.filter with a captured value", lambda: [x for x in ABC if x not in ["b"]], op("list.filter", ABC, ["b"], body=lambda x, ys: op("not", op("contains", ys, x))))
case("list.filter elements that are bools", lambda: [x for x in [True, False, True] if x], op("list.filter", [True, False, True], body=lambda x: x))
case("list.filter by truth through to_bool", lambda: [x for x in [0, 1, "", "a", None] if x], op("list.filter", [0, 1, "", "a", None], body=lambda x: op("to_bool", x)))
fails("list.filter whose body gives an int", "wrong_type", op("list.filter", [1, 0], body=lambda x: x))
fails("list.filter whose body gives null", "wrong_type", op("list.filter", ["a"], body=lambda x: lit(None)))
fails("list.filter whose body fails", "division_by_zero", op("list.filter", [1, 0], body=lambda x: op("equal", op("divide", 1, x), 1)))

case("list.reduce to a sum", lambda: 100 + 1 + 2 + 3, op("list.reduce", [1, 2, 3], 100, body=lambda acc, x: op("add", acc, x)))
case("list.reduce goes from left to right", lambda: ((10 - 1) - 2) - 3, op("list.reduce", [1, 2, 3], 10, body=lambda acc, x: op("subtract", acc, x)))
case("list.reduce of an empty list gives the initial value", "start", op("list.reduce", [], "start", body=lambda acc, x: boom()))
case("list.reduce to a list", lambda: [3, 2, 1], op("list.reduce", [1, 2, 3], [], body=lambda acc, x: op("list.insert", acc, 0, x)))
case("list.reduce to a map", lambda: {x: len(x) for x in ["a", "bc"]}, op("list.reduce", ["a", "bc"], {}, body=lambda acc, x: op("map.set", acc, x, op("length", x))))
case("list.reduce with a captured value", lambda: ((0 * 2 + 1) * 2 + 2) * 2 + 3, op("list.reduce", [1, 2, 3], 0, 2, body=lambda acc, x, k: op("add", op("multiply", acc, k), x)))
case("list.reduce to the last element", lambda: ABC[-1], op("list.reduce", ABC, None, body=lambda acc, x: x))
case("list.reduce that ignores its elements", "start", op("list.reduce", ABC, "start", body=lambda acc, x: acc))
fails("list.reduce that overflows", "overflow", op("list.reduce", [2**32, 2**32], 1, body=lambda acc, x: op("multiply", acc, x)))

case("list.group_by a string in order of first appearance", {"f": ["fig"], "a": ["apple", "ant"], "b": ["bee"]}, op("list.group_by", ["fig", "apple", "bee", "ant"], body=lambda x: op("get", x, 0)))
case("list.group_by an int", {"1": [1, 3], "0": [2, 4]}, op("list.group_by", [1, 2, 3, 4], body=lambda x: op("modulo", x, 2)))
case("list.group_by a bool", {"false": [1, 2], "true": [3]}, op("list.group_by", [1, 2, 3], body=lambda x: op("greater", x, 2)))
case("list.group_by an int and the same string", {"1": [1, "1"]}, op("list.group_by", [1, "1"], body=lambda x: x))
case("list.group_by a bool and the same string", {"true": [True, "true"]}, op("list.group_by", [True, "true"], body=lambda x: x))
case("list.group_by of an empty list", {}, op("list.group_by", [], body=lambda x: x))
case("list.group_by with a captured value", {"low": [1, 4], "high": [7]}, op("list.group_by", [1, 7, 4], 5, body=lambda x, n: op("select", op("less", x, n), "low", "high")))
case("list.group_by the greatest int", {str(U64_MAX): [U64_MAX]}, op("list.group_by", [U64_MAX], body=lambda x: x))
fails("list.group_by a float", "wrong_type", op("list.group_by", [1.5], body=lambda x: x))
fails("list.group_by null", "wrong_type", op("list.group_by", [None], body=lambda x: x))
fails("list.group_by a list", "wrong_type", op("list.group_by", [[1]], body=lambda x: x))

PEOPLE = [{"name": "Ida", "age": 40}, {"name": "Bo", "age": 25}, {"name": "Cy", "age": 40}, {"name": "Al", "age": 31}]
case("list.sort by a key", lambda: sorted(["ccc", "a", "bb"], key=len), op("list.sort", ["ccc", "a", "bb"], body=lambda x: op("length", x)))
case("list.sort by a key is stable", lambda: sorted(PEOPLE, key=lambda p: p["age"]), op("list.sort", PEOPLE, body=lambda p: op("get", p, "age")))
case("list.sort by a key, descending, keeps the order of equals", lambda: sorted(PEOPLE, key=lambda p: p["age"], reverse=True), op("list.sort", PEOPLE, True, body=lambda p: op("get", p, "age")))
case("list.sort by two keys", lambda: sorted(PEOPLE, key=lambda p: [p["age"], p["name"]]), op("list.sort", PEOPLE, body=lambda p: lst(op("get", p, "age"), op("get", p, "name"))))
case("list.sort by a captured order", lambda: sorted(ABC, key=lambda x: ["c", "a", "b"].index(x)), op("list.sort", ABC, False, ["c", "a", "b"], body=lambda x, order: op("list.index_of", order, x)))
case("list.sort descending by a captured distance", lambda: sorted([1, 9, 4], key=lambda x: abs(x - 5), reverse=True), op("list.sort", [1, 9, 4], True, 5, body=lambda x, n: op("absolute", op("subtract", x, n))))
case("list.sort by keys of different types", ["n", "b", "i", "s"], op("list.sort", ["s", "i", "b", "n"], False, {"s": "", "i": 0, "b": True, "n": None}, body=lambda x, m: op("get", m, x)))
case("list.sort by equal keys", lambda: ["b", "a", "c"], op("list.sort", ["b", "a", "c"], body=lambda x: lit(0)))
fails("list.sort whose body fails", "missing_key", op("list.sort", PEOPLE, body=lambda p: op("get", p, "size")))

case("chained bodies", lambda: sum([x * x for x in [1, 2, 3, 4] if x % 2 == 0]), op("list.sum", op("list.map", op("list.filter", [1, 2, 3, 4], body=lambda x: op("equal", op("modulo", x, 2), 0)), body=lambda x: op("multiply", x, x))))
case("list.reduce in list.map", lambda: [1 * 2 * 3, 4, 1], op("list.map", [[1, 2, 3], [4], []], body=lambda row: op("list.reduce", row, 1, body=lambda acc, x: op("multiply", acc, x))))
case("list.filter in list.map with the outer element captured", lambda: [[y for y in [1, 2, 3] if y < x] for x in [1, 3]],
     op("list.map", [1, 3], [1, 2, 3], body=lambda x, ys: op("list.filter", ys, x, body=lambda y, k: op("less", y, k))))

# ---------------------------------------------------------------- maps

family("maps")

# Python's dicts keep order in the same way: a new key goes last, a changed one keeps its place.
AB = {"b": 1, "a": 2}
case("map.set a new key", lambda: {**AB, "c": 3}, op("map.set", AB, "c", 3))
case("map.set a present key", lambda: {**AB, "b": 3}, op("map.set", AB, "b", 3))
case("map.set in an empty map", lambda: {"": None}, op("map.set", {}, "", None))
case("map.set shows its order in the keys", lambda: list({**AB, "b": 3, "0": 4}), op("map.keys", op("map.set", op("map.set", AB, "b", 3), "0", 4)))
case("map.set leaves its operand as it was", lambda: [AB, {**AB, "b": 9}], (lambda m: lst(m, op("map.set", m, "b", 9)))(lit(AB)))
case("map.set a map as a value", lambda: {"a": {"b": [1]}}, op("map.set", {}, "a", {"b": [1]}))
case("map.set a key beyond the BMP", lambda: {"😀": 1}, op("map.set", {}, "😀", 1))
case("map.remove", lambda: {"a": 2}, op("map.remove", AB, "b"))
case("map.remove the only key", {}, op("map.remove", {"a": None}, "a"))
case("map.remove and set again puts the key last", lambda: ["a", "b"], op("map.keys", op("map.set", op("map.remove", AB, "b"), "b", 1)))
fails("map.remove a missing key", "missing_key", op("map.remove", AB, "c"))
fails("map.remove from an empty map", "missing_key", op("map.remove", {}, "a"))
case("map.merge", lambda: {**AB, **{"c": 3, "b": 4}}, op("map.merge", AB, {"c": 3, "b": 4}))
case("map.merge shows its order in the items", lambda: [list(item) for item in {**AB, **{"c": 3, "b": 4}}.items()], op("map.items", op("map.merge", AB, {"c": 3, "b": 4})))
case("map.merge three maps", lambda: {**{"a": 1}, **{"b": 2}, **{"a": 3}}, op("map.merge", {"a": 1}, {"b": 2}, {"a": 3}))
case("map.merge one map", lambda: AB, op("map.merge", AB))
case("map.merge with an empty map", lambda: {**{}, **AB}, op("map.merge", {}, AB))
case("map.merge does not go deep", lambda: {**{"a": {"x": 1}}, **{"a": {"y": 2}}}, op("map.merge", {"a": {"x": 1}}, {"a": {"y": 2}}))
case("map.merge takes null as a value", lambda: {**{"a": 1}, **{"a": None}}, op("map.merge", {"a": 1}, {"a": None}))
for text, value in [("a map", {"z": 1, "a": [2], "10": None, "9": {}}), ("an empty map", {}), ("a map with unusual keys", {"": 0, " ": 1, "a\"b": 2, "😀": 3, "\n": 4})]:
    case(f"map.keys of {text}", lambda: list(value), op("map.keys", value))
    case(f"map.values of {text}", lambda: list(value.values()), op("map.values", value))
    case(f"map.items of {text}", lambda: [list(item) for item in value.items()], op("map.items", value))
case("map.from_items", lambda: dict([["b", 1], ["a", 2]]), op("map.from_items", [["b", 1], ["a", 2]]))
case("map.from_items of an empty list", {}, op("map.from_items", []))
case("map.from_items with a key that comes twice", lambda: dict([["a", 1], ["b", 2], ["a", 3]]), op("map.from_items", [["a", 1], ["b", 2], ["a", 3]]))
case("map.from_items of map.items", lambda: AB, op("map.from_items", op("map.items", AB)))
case("map.from_items of list.zip", lambda: dict(zip(ABC, [1, 2, 3])), op("map.from_items", op("list.zip", ABC, [1, 2, 3])))
fails("map.from_items with a key that is an int", "wrong_type", op("map.from_items", [[1, 2]]))
fails("map.from_items with an item that is a string", "wrong_type", op("map.from_items", ["ab"]))
WIDE = {"d": 4, "a": 1, "c": None, "b": 2}
case("map.pick in the order of the map", lambda: {k: v for k, v in WIDE.items() if k in ["a", "c", "d"]}, op("map.pick", WIDE, ["c", "a", "d"]))
case("map.pick shows its order in the keys", lambda: [k for k in WIDE if k in ["b", "d"]], op("map.keys", op("map.pick", WIDE, ["b", "d"])))
case("map.pick ignores keys that are not there", lambda: {"a": 1}, op("map.pick", WIDE, ["x", "a", "a"]))
case("map.pick no keys", {}, op("map.pick", WIDE, []))
case("map.omit", lambda: {k: v for k, v in WIDE.items() if k not in ["a", "d"]}, op("map.omit", WIDE, ["d", "a"]))
case("map.omit keys that are not there", lambda: WIDE, op("map.omit", WIDE, ["x"]))
case("map.omit no keys", lambda: WIDE, op("map.omit", WIDE, []))
case("map.omit all keys", {}, op("map.omit", WIDE, ["a", "b", "c", "d"]))
case("a map node keeps its order", lambda: list({"z": 1, "a": 2}), op("map.keys", mp(z=1, a=2)))
case("a map node with a computed value", lambda: {"sum": 1 + 2, "": []}, mp(("sum", op("add", 1, 2)), ("", [])))

# ---------------------------------------------------------------- strings

family("strings")

case("string.concat", lambda: "a" + "" + "😀", op("string.concat", "a", "", "😀"))
case("string.concat of one string", "x", op("string.concat", "x"))
case("string.concat does not compose code points", lambda: "e" + "\u0301", op("string.concat", "e", "\u0301"))
for text in ["abc", "Straße", "éÀñ", "привет", "a😀1", ""]:
    case(f"string.upper of {json.dumps(text, ensure_ascii=False)}", lambda: text.upper(), op("string.upper", text))
for text in ["ABC", "ÉàÑ", "ПРИВЕТ", "A😀1", ""]:
    case(f"string.lower of {json.dumps(text, ensure_ascii=False)}", lambda: text.lower(), op("string.lower", text))
for text in ["  a b ", "\t\r\na\n", "abc", "   ", "", "\u3000a\u00a0"]:
    case(f"string.trim of {json.dumps(text)}", lambda: text.strip(), op("string.trim", text))
for text, chars in [("xxaxbxx", "x"), ("-_a-_", "_-"), ("abc", ""), (" a ", ""), ("aaa", "a"), ("😀a😀", "😀"), ("a b", "ab"), (" x ", "x"), ("[a]", "[]"), ("a-z", "a-z")]:
    case(f"string.trim of {json.dumps(text, ensure_ascii=False)}, characters {json.dumps(chars, ensure_ascii=False)}", lambda: text.strip(chars), op("string.trim", text, chars))
for text in ["a b c", "  a\tb \n c ", "", "   ", "abc", "é 😀"]:
    case(f"string.split of {json.dumps(text, ensure_ascii=False)}", lambda: text.split(), op("string.split", text))
for text, sep in [("a,b,c", ","), ("a,,b,", ","), ("", ","), (",", ","), ("abc", ","), ("a, b, c", ", "), ("aaa", "aa"), ("a😀b", "😀"), (" a  b", " "), ("a.b", ".")]:
    case(f"string.split of {json.dumps(text, ensure_ascii=False)} by {json.dumps(sep, ensure_ascii=False)}", lambda: text.split(sep), op("string.split", text, sep))
fails("string.split by the empty string", "invalid_value", op("string.split", "abc", ""))
for parts, sep in [(["a", "b", "c"], ", "), (["a"], ","), ([], ","), (["", ""], "-"), (["a", "b"], ""), (["é", "😀"], "\n")]:
    case(f"string.join {json.dumps(parts, ensure_ascii=False)} by {json.dumps(sep)}", lambda: sep.join(parts), op("string.join", parts, sep))
for text, old, new in [("a-b-c", "-", "+"), ("aaa", "aa", "b"), ("abc", "x", "y"), ("abc", "b", ""), ("", "a", "b"), ("a😀", "😀", "é"), ("aa", "a", "aa"), ("a.c", ".", "$0"), ("ab", "b", "\\1")]:
    case(f"string.replace in {json.dumps(text, ensure_ascii=False)} {json.dumps(old, ensure_ascii=False)} by {json.dumps(new, ensure_ascii=False)}", lambda: text.replace(old, new), op("string.replace", text, old, new))
fails("string.replace the empty string", "invalid_value", op("string.replace", "abc", "", "x"))
for text, part in [("abc", "ab"), ("abc", "bc"), ("abc", ""), ("", "a"), ("😀a", "😀"), ("a😀", "😀"), ("a", "abc"), ("Abc", "a")]:
    case(f"string.starts_with: {json.dumps([text, part], ensure_ascii=False)}", lambda: text.startswith(part), op("string.starts_with", text, part))
    case(f"string.ends_with: {json.dumps([text, part], ensure_ascii=False)}", lambda: text.endswith(part), op("string.ends_with", text, part))
for text, part in [("abcabc", "c"), ("😀😀a", "a"), ("é😀x", "😀x"), ("abc", ""), ("", ""), ("abc", "abc")]:
    case(f"string.find in {json.dumps(text, ensure_ascii=False)} {json.dumps(part, ensure_ascii=False)}", lambda: text.find(part), op("string.find", text, part))
case("string.find what is not there", None, op("string.find", "abc", "d"))  # Python gives -1
case("string.find in the empty string", None, op("string.find", "", "a"))  # Python gives -1
for text, width, fill in [("7", 3, "0"), ("abc", 2, "0"), ("abc", 3, "0"), ("", 2, "x"), ("é😀", 4, "·"), ("a", 3, "😀"), ("a", -5, "x"), ("a", 0, "x"), ("-5", 4, "0")]:
    case(f"string.pad_start of {json.dumps(text, ensure_ascii=False)} to {width} with {fill}", lambda: text.rjust(width, fill), op("string.pad_start", text, width, fill))
    case(f"string.pad_end of {json.dumps(text, ensure_ascii=False)} to {width} with {fill}", lambda: text.ljust(width, fill), op("string.pad_end", text, width, fill))
case("string.pad_start with blanks", lambda: "ab".rjust(5), op("string.pad_start", "ab", 5))
case("string.pad_end with blanks", lambda: "ab".ljust(5), op("string.pad_end", "ab", 5))
for name in ["string.pad_start", "string.pad_end"]:
    fails(f"{name} with two code points", "invalid_value", op(name, "a", 5, "ab"))
    fails(f"{name} with the empty string", "invalid_value", op(name, "a", 5, ""))
for text, count in [("ab", 3), ("ab", 1), ("ab", 0), ("", 5), ("😀", 2), ("ab", -1)]:
    case(f"string.repeat {json.dumps(text, ensure_ascii=False)} {count} times", lambda: text * count, op("string.repeat", text, count))
case("string.format in turn", lambda: "{} and {}".format("a", 1), op("string.format", "{} and {}", "a", 1))
case("string.format by number", lambda: "{1}{0}{1}".format("a", "b"), op("string.format", "{1}{0}{1}", "a", "b"))
case("string.format with braces", lambda: "{{}} {{{}}}".format(5), op("string.format", "{{}} {{{}}}", 5))
case("string.format without values", lambda: "plain }}".format(), op("string.format", "plain }}"))
case("string.format of the empty template", lambda: "".format(), op("string.format", ""))
case("string.format with a value of braces", lambda: "{}!".format("{0}{}"), op("string.format", "{}!", "{0}{}"))
case("string.format with null, bools and floats", "null true false 1.5", op("string.format", "{} {} {} {}", None, True, False, 1.5))  # as to_string
case("string.format with lists and maps", lambda: "{} {}".format(compact([1, "a"]), compact({"a": [None]})), op("string.format", "{} {}", [1, "a"], {"a": [None]}))
case("string.format with the greatest int", lambda: "<{}>".format(U64_MAX), op("string.format", "<{}>", U64_MAX))
case("string.format beyond the BMP", lambda: "😀{}é".format("𝄞"), op("string.format", "😀{}é", "𝄞"))
case("string.format with the number 10", lambda: "{10}".format(*range(11)), op("string.format", "{10}", *range(11)))
fails("string.format with more holes than values", "invalid_value", op("string.format", "{} {}", 1))
fails("string.format with a number beyond the values", "invalid_value", op("string.format", "{1}", 1))
fails("string.format with a hole but no values", "invalid_value", op("string.format", "{}"))
fails("string.format with a named hole", "invalid_value", op("string.format", "{name}", 1))
fails("string.format with an open brace", "invalid_value", op("string.format", "a{", 1))
fails("string.format with an open hole", "invalid_value", op("string.format", "{0", 1))
fails("string.format with a closing brace", "invalid_value", op("string.format", "a}", 1))
fails("string.format with a negative number", "invalid_value", op("string.format", "{-1}", 1))

# ---------------------------------------------------------------- encodings

family("encodings")

for value in [None, True, 5, U64_MAX, I64_MIN, 1.5, 2.0, "", "a", "a\"b\\c/d", "\n\t\r\b\f", "\u0000\u001f", [], {}, [1, [2.5, None], "x"], {"b": 1, "a": {"c": []}}]:
    case(f"json.encode of {json.dumps(value)}", lambda: compact(value), op("json.encode", value))
case("json.encode keeps the order of keys", lambda: compact({"z": 1, "a": 2, "m": 3}), op("json.encode", op("map.set", {"z": 1, "a": 2}, "m", 3)))
case("json.encode a string of JSON", lambda: compact(compact({"a": "b"})), op("json.encode", op("json.encode", {"a": "b"})))
for text in ["null", "true", "-5", "1.0", "1e2", "1.5E+1", "-0.5", str(U64_MAX), str(I64_MIN), '""', '"a\\"b\\\\c\\/\\n\\u00e9"', '"\\ud83d\\ude00"', '"😀é"',
             "[]", "{}", ' [ 1 , 2.5 ,\n"a" ]\t', '{"b": {"c": [null]}, "a": 1}', "[[[[]]]]"]:
    case(f"json.decode of {json.dumps(text, ensure_ascii=False)}", lambda: json.loads(text), op("json.decode", text))
case("json.decode keeps the order of keys", lambda: list(json.loads('{"z":1,"a":2,"10":3,"9":4}')), op("map.keys", op("json.decode", '{"z":1,"a":2,"10":3,"9":4}')))
case("json.decode tells ints from floats", ["int", "float", "float"], op("list.map", op("json.decode", "[100, 100.0, 1e2]"), body=lambda x: op("type_of", x)))
case("json.decode of json.encode", lambda: {"é😀": ["\u2028", 1, 1.0, -0.5]}, op("json.decode", op("json.encode", {"é😀": ["\u2028", 1, 1.0, -0.5]})))
for text in ["", " ", "nul", "True", "None", "NaN", "Infinity", "-Infinity", "[1,]", "[1 2]", "{a:1}", "{'a':1}", '{"a"}', '{"a":1,}', '"abc', "01", "1.", ".5", "+1", "1 2", "[1]]", '"\n"', '"\\x41"', "0x10", "// 1"]:
    fails(f"json.decode of {json.dumps(text)}", "invalid_value", op("json.decode", text))  # Python takes NaN and Infinity
for text in ["", "f", "fo", "foo", "foob", "é😀", "~~~???>>>", "\u0000\u0001", "line\n"]:
    encoded = base64.b64encode(text.encode()).decode()
    case(f"base64.encode of {json.dumps(text, ensure_ascii=False)}", lambda: encoded, op("base64.encode", text))
    case(f"base64.decode of {json.dumps(encoded)}", lambda: text, op("base64.decode", encoded))
for text in ["Zg", "Zg=", "Z", "Zm9v!", "w6kt_w==", "Zg==Zg==", "====", "é"]:
    fails(f"base64.decode of {json.dumps(text)}", "invalid_value", op("base64.decode", text))
fails("base64.decode of bytes that are no UTF-8", "invalid_value", op("base64.decode", base64.b64encode(b"\xff").decode()))
fails("base64.decode of a UTF-8 surrogate", "invalid_value", op("base64.decode", base64.b64encode(b"\xed\xa0\x80").decode()))
for text in ["", "abc", "é😀", "a" * 100, "\u0000"]:
    case(f"sha256 of {json.dumps(text, ensure_ascii=False)}", lambda: hashlib.sha256(text.encode()).hexdigest(), op("sha256", text))

# ---------------------------------------------------------------- errors

family("errors")


def wrong(name, *operands, body=None):
    """A wrong type among the operands, which are literals."""
    fails(f"wrong type: {name} of {json.dumps(list(operands), ensure_ascii=False)}", "wrong_type", op(name, *operands, body=body))


for value, key in [(1, 0), (1.5, 0), (True, 0), (None, "a"), ([1], "0"), ([1], 0.0), ([1], False), ([1], None), ({"a": 1}, 0), ({"a": 1}, None), ({"a": 1}, ["a"]), ("abc", "a"), ("abc", 1.0)]:
    wrong("get", value, key)
for operands in [([1], 0), ({"a": 1}, "a"), ([1], None)]:
    wrong("get_path", *operands)
for operands in [(True, "a", 0), (1.5, 0, 0), ([1], 0.0, 0), ("abc", "a", 0)]:
    wrong("get_or", *operands)
for operands in [(5, 0, 1), (None, 0, 1), ({"a": 1}, 0, 1), ([1], "0", 1), ([1], 0, 1.0), ([1], True, 1), ([1], 0, 1, True), ("abc", 0, 1, 1.0), ("abc", 0, "c")]:
    wrong("slice", *operands)
for value in [5, 1.5, True, None]:
    wrong("length", value)
for operands in [(5, 1), (None, None), (True, True), ("abc", 1), ("abc", None), ({"a": 1}, 1)]:
    wrong("contains", *operands)
for name in ["add", "subtract", "multiply", "divide", "integer_divide", "modulo", "power"]:
    for operands in [("2", 1), (1, None), (True, 1), (1.5, False), ([1], 2)]:
        wrong(name, *operands)
wrong("add", "a", "b")
wrong("add", [1], [2])
wrong("multiply", "ab", 2)
for name in ["negate", "absolute", "floor", "ceil", "round"]:
    for value in ["1", True, None, [1]]:
        wrong(name, value)
for digits in ["1", 1.0, True]:
    wrong("round", 1.5, digits)
for name in ["to_int", "to_float"]:
    for value in [None, [], [1], {}]:
        wrong(name, value)
for name, rest in [("list.append", [1]), ("list.extend", [[1]]), ("list.insert", [0, 1]), ("list.set", [0, 1]), ("list.delete", [0]), ("list.pop", []),
                   ("list.remove", [1]), ("list.reverse", []), ("list.sort", []), ("list.unique", []), ("list.concat", []), ("list.repeat", [2]),
                   ("list.flatten", []), ("list.zip", []), ("list.enumerate", []), ("list.sum", []), ("list.min", []), ("list.max", []),
                   ("list.mean", []), ("list.index_of", [1]), ("list.count", [1]), ("list.any", []), ("list.all", [])]:
    for value in ["abc", {"a": 1}, None]:
        wrong(name, value, *rest)
for name in ["list.map", "list.filter", "list.group_by"]:
    for value in ["abc", {"a": 1}, 5]:
        wrong(name, value, body=lambda x: lit(True))
wrong("list.reduce", "abc", 0, body=lambda acc, x: acc)
wrong("list.reduce", None, 0, body=lambda acc, x: acc)
fails("wrong type: list.sort by a key of a string", "wrong_type", op("list.sort", "abc", body=lambda x: x))
for operands in [([1], "a"), ([1], 2), ([1], None)]:
    wrong("list.extend", *operands)
    wrong("list.concat", *operands)
    wrong("list.zip", *operands)
for index in ["0", 0.0, True, None]:
    wrong("list.insert", [1], index, 2)
    wrong("list.set", [1], index, 2)
    wrong("list.delete", [1], index)
for index in ["0", 0.0, False]:
    wrong("list.pop", [1], index)
for value in [1, "true"]:
    wrong("list.sort", [2, 1], value)
for count in ["2", 2.0, True]:
    wrong("list.repeat", [1], count)
    wrong("string.repeat", "a", count)
for start in ["1", 1.0, True]:
    wrong("list.enumerate", [1], start)
for operands in [("0", 1), (0, 1.0), (0, True), (0.5, 2), (0, None), (0, 1, 0.5), (0, 1, True)]:
    wrong("list.range", *operands)
for name in ["list.sum", "list.mean"]:
    for values in [["a"], [1, None], [True], [[1]]]:
        wrong(name, values)
for name, rest in [("map.set", ["a", 1]), ("map.remove", ["a"]), ("map.merge", []), ("map.keys", []), ("map.values", []), ("map.items", []), ("map.pick", [[]]), ("map.omit", [[]])]:
    for value in [[], "abc", None]:
        wrong(name, value, *rest)
for key in [1, None, True]:
    wrong("map.set", {"a": 1}, key, 1)
    wrong("map.remove", {"a": 1}, key)
wrong("map.merge", {"a": 1}, [["b", 2]])
wrong("map.merge", {"a": 1}, None)
for value in [{"a": 1}, "ab", None, [1], [["a", 1], None], [[None, 1]]]:
    wrong("map.from_items", value)
for keys in ["a", {"a": 1}, [1], ["a", None]]:
    wrong("map.pick", {"a": 1}, keys)
    wrong("map.omit", {"a": 1}, keys)
for name, rest in [("string.concat", []), ("string.upper", []), ("string.lower", []), ("string.trim", []), ("string.split", []), ("string.replace", ["a", "b"]),
                   ("string.starts_with", ["a"]), ("string.ends_with", ["a"]), ("string.find", ["a"]), ("string.pad_start", [3]), ("string.pad_end", [3]),
                   ("string.repeat", [2]), ("string.format", []), ("json.decode", []), ("base64.encode", []), ("base64.decode", []), ("sha256", [])]:
    for value in [5, None, ["a"]]:
        wrong(name, value, *rest)
for operands in [("string.concat", "a", 1), ("string.concat", "a", None), ("string.trim", "a", 1), ("string.split", "a", 1), ("string.join", "abc", ","), ("string.join", [1, 2], ","),
                 ("string.join", ["a", None], ","), ("string.join", ["a"], 1), ("string.join", None, ","), ("string.replace", "a", 1, "b"), ("string.replace", "a", "a", 1),
                 ("string.starts_with", "a", 1), ("string.ends_with", "a", None), ("string.find", "a", 1), ("string.find", "a", None),
                 ("string.pad_start", "a", "3"), ("string.pad_start", "a", 3.0), ("string.pad_start", "a", 3, 0), ("string.pad_end", "a", True), ("string.pad_end", "a", 3, 1)]:
    wrong(*operands)

fails("limit: list.repeat", "limit_exceeded", op("list.repeat", [1, 2], LARGE))
fails("limit: list.range", "limit_exceeded", op("list.range", 0, LARGE))
fails("limit: string.repeat", "limit_exceeded", op("string.repeat", "ab", LARGE))
fails("limit: string.pad_start", "limit_exceeded", op("string.pad_start", "a", LARGE))
fails("limit: string.pad_end", "limit_exceeded", op("string.pad_end", "a", LARGE, "x"))

for kind, start, failing_after in [
    ("division_by_zero", 0, lambda x: op("modulo", 1, x)), ("missing_key", {}, lambda x: op("get", x, "a")),
    ("overflow", U64_MAX, lambda x: op("negate", x)), ("empty", [], lambda x: op("list.max", x)),
]:
    fails(f"an error {kind} in a list", kind, lst(1, failing_after(lit(start))))
    fails(f"an error {kind} in a map", kind, mp(a=failing_after(lit(start))))
    fails(f"an error {kind} in an operand", kind, op("to_string", op("list.append", [], failing_after(lit(start)))))
    fails(f"an error {kind} in a body", kind, op("list.map", [start], body=failing_after))
fails("an error in a job's output that is no number", "wrong_type", op("add", inp("a"), 1), a="5")
fails("an error in a job's output that lacks a key", "missing_key", op("get", inp("a"), "result"), a={"results": []})
fails("an error in a job's output that is too short", "bad_index", op("get", inp("a"), 1), a=["only"])
fails("an integer beyond 64 bits is no operand of negate", "overflow", op("negate", inp("a")), a=2**64)
fails("an integer below 64 bits is no operand of multiply", "overflow", op("multiply", inp("a"), 1), a=-(2**63) - 1)

# ---------------------------------------------------------------- authoring

family("authoring")


def steps(value, *changes):
    """What a Python value becomes when the steps change it in turn."""
    value = json.loads(json.dumps(value))
    for change in changes:
        change(value)
    return value


def chain(start, *operations):
    """op(name, value, ...) for each operation in turn, beginning with `start`."""
    graph = node(start)
    for name, *operands in operations:
        graph = op(name, graph, *operands)
    return graph


OUT = {"first": "a.txt", "second": {"path": "b.txt", "size": 3}, "third": [1, 2]}
case("append in a loop", lambda: [OUT["first"], OUT["second"], OUT["third"]],
     chain([], ("list.append", inp("first")), ("list.append", inp("second")), ("list.append", inp("third"))), **OUT)
case("append in a loop over a range", lambda: [i * i for i in range(4)],
     op("list.reduce", op("list.range", 0, 4), [], body=lambda acc, i: op("list.append", acc, op("multiply", i, i))))
case("append in a loop to a list that a job gave", lambda: [0] + [10, 20], chain(inp("xs"), ("list.append", inp("a")), ("list.append", inp("b"))), xs=[0], a=10, b=20)
case("slice without the ends", lambda: [1, 2, 3, 4][1:-1], op("slice", inp("xs"), 1, -1), xs=[1, 2, 3, 4])
case("slice of a list of outputs without the ends", lambda: ["b", "c"], op("slice", lst(inp("a"), inp("b"), inp("c"), inp("d")), 1, -1), a="a", b="b", c="c", d="d")
case("get of a dict", lambda: {"path": "b.txt", "size": 3}["size"], op("get", inp("d"), "size"), d={"path": "b.txt", "size": 3})
case("set in a dict", lambda: steps({"a": 1}, lambda d: d.update(b="x"), lambda d: d.update(a=2)), chain(inp("d"), ("map.set", "b", inp("x")), ("map.set", "a", 2)), d={"a": 1}, x="x")
case("get of a list", lambda: [5, 6, 7][-1] + [5, 6, 7][0], (lambda xs: op("add", op("get", xs, -1), op("get", xs, 0)))(inp("xs")), xs=[5, 6, 7])
case("set in a list", lambda: assigned(assigned([5, 6, 7], 0, "x"), -1, "y"), chain(inp("xs"), ("list.set", 0, inp("x")), ("list.set", -1, "y")), xs=[5, 6, 7], x="x")
case("set an element of a dict from another", lambda: {"a": 3, "b": [3, 4]}, (lambda d: op("map.set", d, "a", op("get", op("get", d, "b"), 0)))(inp("d")), d={"a": 1, "b": [3, 4]})
case("swap two elements", lambda: [3, 2, 1], (lambda xs: chain(xs, ("list.set", 0, op("get", xs, 2)), ("list.set", 2, op("get", xs, 0))))(inp("xs")), xs=[1, 2, 3])
EXTENDED = chain(inp("xs"), ("list.extend", inp("more")), ("list.append", 8), ("list.append", 9))
case("extend, append twice and pop", lambda: (lambda xs: [xs.pop(), xs])([1] + [2, 3] + [8] + [9]),
     lst(op("list.pop", EXTENDED), op("list.delete", EXTENDED, -1)), xs=[1], more=[2, 3])
case("pop the first of a queue", lambda: (lambda xs: [xs.pop(0), xs])(["a", "b"]), (lambda xs: lst(op("list.pop", xs, 0), op("list.delete", xs, 0)))(inp("xs")), xs=["a", "b"])
case("update a dict then delete a key", lambda: steps({"a": 1, "b": 2}, lambda d: d.update({"b": 3, "c": 4}), lambda d: d.pop("a")),
     chain(inp("d"), ("map.merge", inp("e")), ("map.remove", "a")), d={"a": 1, "b": 2}, e={"b": 3, "c": 4})
fails("delete a key of a dict twice", "missing_key", chain({"a": 1}, ("map.remove", "a"), ("map.remove", "a")))
ROWS = lst([], [])
ROW_0 = op("list.append", op("get", ROWS, 0), inp("a"))
ROWS_1 = op("list.set", ROWS, 0, ROW_0)
ROWS_2 = op("list.set", ROWS_1, 1, op("list.append", op("get", ROWS_1, 1), inp("b")))
ROWS_3 = op("list.set", ROWS_2, 0, op("list.append", op("get", ROWS_2, 0), inp("b")))
case("nested lists to which values are appended", lambda: steps([[], []], lambda r: r[0].append(1), lambda r: r[1].append("x"), lambda r: r[0].append("x")), ROWS_3, a=1, b="x")
case("nested lists of outputs to which a row is appended", lambda: [["a", "b"], ["b", ["a"]]], op("list.append", lst(lst(inp("a"), inp("b"))), lst(inp("b"), lst(inp("a")))), a="a", b="b")
case("append to a list in a dict", lambda: steps({"xs": [1]}, lambda d: d["xs"].append(2)), (lambda d: op("map.set", d, "xs", op("list.append", op("get", d, "xs"), 2)))(inp("d")), d={"xs": [1]})
case("append to a list in a dict that may lack it", lambda: steps({"a": 1}, lambda d: d.setdefault("xs", []).append(2)),
     (lambda d: op("map.set", d, "xs", op("list.append", op("get_or", d, "xs", []), 2)))(inp("d")), d={"a": 1})
case("set deep in a dict", lambda: steps({"a": {"b": [1, 2], "c": 0}}, lambda d: d["a"]["b"].__setitem__(1, 9)),
     (lambda d: op("map.set", d, "a", op("map.set", op("get", d, "a"), "b", op("list.set", op("get_path", d, ["a", "b"]), 1, 9))))(inp("d")), d={"a": {"b": [1, 2], "c": 0}})
case("insert, remove and reverse", lambda: steps(["b", "c"], lambda xs: xs.insert(0, "a"), lambda xs: xs.remove("b"), lambda xs: xs.reverse()),
     chain(inp("xs"), ("list.insert", 0, "a"), ("list.remove", "b"), ("list.reverse",)), xs=["b", "c"])
case("add one to a counter", lambda: steps({"n": 1}, lambda d: d.update(n=d["n"] + 1)), (lambda d: op("map.set", d, "n", op("add", op("get", d, "n"), 1)))(inp("d")), d={"n": 1})
case("count words", lambda: {w: "b a b c b".split().count(w) for w in ["b", "a", "c"]},
     op("list.reduce", op("string.split", inp("text")), {}, body=lambda acc, w: op("map.set", acc, w, op("add", op("get_or", acc, w, 0), 1))), text="b a b c b")
case("a dict of outputs", lambda: {"files": ["a.txt", "b.txt"], "count": 2}, (lambda xs: mp(files=xs, count=op("length", xs)))(lst(inp("a"), inp("b"))), a="a.txt", b="b.txt")
case("a command line of outputs", lambda: " ".join(["cat"] + ["a.txt", "b.txt"] + [">", "out"]), op("string.join", op("list.concat", ["cat"], inp("files"), lst(">", inp("target"))), " "), files=["a.txt", "b.txt"], target="out")
case("a text with values", lambda: f"{3} of {4}: {'a' + 'b'}", op("string.format", "{} of {}: {}", inp("i"), op("add", inp("i"), 1), op("string.concat", "a", "b")), i=3)
case("a list comprehension with a condition", lambda: [x.upper() for x in ["a.txt", "b.md", "c.txt"] if x.endswith(".txt")],
     op("list.map", op("list.filter", inp("xs"), body=lambda x: op("string.ends_with", x, ".txt")), body=lambda x: op("string.upper", x)), xs=["a.txt", "b.md", "c.txt"])
case("a dict comprehension", lambda: {k: v * 2 for k, v in {"a": 1, "b": 2}.items()},
     op("map.from_items", op("list.map", op("map.items", inp("d")), body=lambda kv: lst(op("get", kv, 0), op("multiply", op("get", kv, 1), 2)))), d={"a": 1, "b": 2})
case("a nested list comprehension", lambda: [x + y for x in "ab" for y in "cd"],
     op("list.flatten", op("list.map", ["a", "b"], inp("ys"), body=lambda x, ys: op("list.map", ys, x, body=lambda y, k: op("string.concat", k, y)))), ys=["c", "d"])
case("a conditional value", lambda: "many" if len([1, 2, 3]) > 2 else "few", op("select", op("greater", op("length", inp("xs")), 2), "many", "few"), xs=[1, 2, 3])
case("rows into columns", lambda: [list(c) for c in zip([1, 2], [3, 4])], (lambda rows: op("list.zip", op("get", rows, 0), op("get", rows, 1)))(inp("rows")), rows=[[1, 2], [3, 4]])
case("the largest of the outputs", lambda: max([{"n": 3}, {"n": 7}, {"n": 5}], key=lambda d: d["n"]), op("get", op("list.sort", inp("xs"), body=lambda d: op("get", d, "n")), -1), xs=[{"n": 3}, {"n": 7}, {"n": 5}])
case("a list that changes after it was stored", lambda: {"before": [1], "after": [1, 2]}, (lambda xs: mp(before=xs, after=op("list.append", xs, 2)))(inp("xs")), xs=[1])
case("batches of two", lambda: [[1, 2, 3, 4, 5][i:i + 2] for i in range(0, 5, 2)],
     op("list.map", op("list.range", 0, op("length", inp("xs")), 2), inp("xs"), body=lambda i, xs: op("slice", xs, i, op("add", i, 2))), xs=[1, 2, 3, 4, 5])

# ---------------------------------------------------------------- splicing

family("splicing")

for text, value in [
    ("null", None), ("a bool", False), ("an int", 5), ("the greatest int", U64_MAX), ("the least int", I64_MIN), ("2^63", 2**63), ("2^53 + 1", 2**53 + 1),
    ("a float", 0.1), ("a float without a fraction", 1.0), ("the empty string", ""), ("an empty list", []), ("an empty map", {}),
    ("a string with escapes", "a\"b\\c/d\n\t\r\b\f\u0000\u001f\u007f"), ("a string beyond the BMP", "😀𝄞é\u2028\ufeff"),
    ("nested lists", [[1, [2, []]], [[]]]), ("nested maps", {"b": {"z": [None, {"": 0.5}]}, "a": []}), ("keys of digits", {"10": 1, "9": 2, "a": 3}),
    ("a key __proto__", {"__proto__": {"x": 1}, "constructor": 2}),
    ("a value that looks like a node", {"operation": "add", "inputs": [0, 1], "literal": 1}),
    ("an integer above 64 bits", 2**64), ("an integer below 64 bits", -(2**63) - 1), ("an integer of 41 digits", 10**40),
]:
    case(f"an output as it is: {text}", lambda: value, inp("a"), a=value)
    case(f"an output in a list and a map: {text}", lambda: [0, value, {"k": value}], (lambda a: lst(0, a, mp(k=a)))(inp("a")), a=value)
    case(f"a literal in a map: {text}", lambda: {"x": value}, mp(x=value))
case("a list node without elements", [], lst())
case("a map node without keys", {}, mp())
case("two outputs between literals", lambda: [1, "A", "x", ["B"], None], lst(1, inp("a"), "x", lst(inp("b")), None), a="A", b="B")
case("one output in several places", lambda: {"p": [7, 7], "q": {"r": 7}}, (lambda a: mp(p=lst(a, a), q=mp(r=a)))(inp("a")), a=7)
case("an output is not looked into", lambda: {"a": {"input": "b"}, "b": [1]}, mp(a=inp("a"), b=inp("b")), a={"input": "b"}, b=[1])
case("an output that looks like a template", lambda: ["{0}", "${a}", "{{a}}"], lst(inp("a"), "${a}", "{{a}}"), a="{0}")
case("an output of JSON text stays text", '{"x": 1}', inp("a"), a='{"x": 1}')
case("outputs with unusual names", lambda: [1, 2, 3], lst(inp(""), inp("a b"), inp("😀")), **{"": 1, "a b": 2, "😀": 3})
case("an output next to a computed value", lambda: {"xs": [1, 2], "n": 2, "last": 2}, (lambda a: mp(xs=a, n=op("length", a), last=op("get", a, -1)))(inp("a")), a=[1, 2])
case("maps in maps keep the order of keys", lambda: compact({"z": {"y": 1, "x": [2]}, "a": 3}), op("to_string", mp(z=mp(y=1, x=lst(inp("a"))), a=3)), a=2)
case("a deep value", lambda: [[[[[[[["x"]]]]]]]], lst(lst(lst(lst(lst(lst(lst(lst(inp("a"))))))))), a="x")

# ---------------------------------------------------------------- output

missing = [name for name in OPERATIONS if name not in succeeding]
assert not missing, f"operations without a vector that succeeds: {missing}"
assert failing == ERRORS, f"error kinds without a vector: {ERRORS - failing}"


# Characters that one does not see, or that some tools take for the end of a line.
HIDDEN = "\u007f\u00a0\u0301\u2028\u2029\u3000\ufeff"


def text_of(vectors):
    rows = [json.dumps(v, ensure_ascii=False, allow_nan=False, separators=(", ", ": ")) for v in vectors]
    text = "[\n" + ",\n".join(rows) + "\n]\n"
    return text.translate({ord(c): f"\\u{ord(c):04x}" for c in HIDDEN})


def main():
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        sys.exit(__doc__)
    wanted = {f"{name}.json": text_of(vectors).encode() for name, vectors in families.items()}
    present = {path.name: path.read_bytes() for path in HERE.glob("*.json")}
    if check:
        differing = sorted(n for n in {*wanted, *present} if wanted.get(n) != present.get(n))
        for name in differing:
            print(f"{name} differs: run python3 generate.py")
        sys.exit(1 if differing else 0)
    for name, data in wanted.items():
        (HERE / name).write_bytes(data)
    for name in sorted(set(present) - set(wanted)):
        print(f"{name} is not written by generate.py: delete it")
    for name, vectors in families.items():
        print(f"{len(vectors):5} {name}.json")
    print(f"{sum(map(len, families.values())):5} in all")


if __name__ == "__main__":
    main()
