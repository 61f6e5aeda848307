//! What expressions and clauses mean, by ArangoDB's documentation.

use serde_json::json;

use crate::client::{collections, server};

#[tokio::test]
async fn expressions_have_the_values_that_are_documented() {
    let (double, client) = server().await;
    let cases = [
        // Types come in an order, and compare without casts.
        ("[null < false, false < 0, 0 < '', 'z' < [], [] < {}]", json!([true, true, true, true, true])),
        (
            "[0 == null, 45 <= 'yikes', 65 == '65', 1 == 1.0, 'a' == 'A']",
            json!([false, true, false, true, false]),
        ),
        (
            "[9007199254740993 == 9007199254740992.0, 9007199254740993 > 9007199254740992.0, -1 > -1.5]",
            json!([false, true, true]),
        ),
        ("[[1, 2] < [2], [] == [null], {} == { a: null }]", json!([true, true, true])),
        ("[{ a: 1, b: 2 } == { b: 2, a: 1 }, { b: 1 } < { a: 0 }]", json!([true, true])),
        ("[1.5 IN [2, 1.5], 'foo' IN null, 42 NOT IN [17]]", json!([true, false, true])),
        ("['foo' LIKE 'f%', 'a_b' LIKE 'a\\\\_b', 'foo' NOT LIKE 'f%']", json!([true, true, false])),
        ("['foo' =~ '^f[o].$', 'foo' !~ '[a-z]+bar$']", json!([true, true])),
        // Logical operators give one of their operands.
        (
            "[1 || 7, null || 'foo', null && true, true && 23, ![], !'']",
            json!([1, "foo", null, 23, false, true]),
        ),
        // It binds to what is next to it: `(NOT 1) == 0`.
        ("NOT 1 == 0", json!(false)),
        // Whatever is no number is cast to one.
        ("[1 + 'a', 1 + '99', null + 1, 3 + [], 24 + [2], 24 + [2, 4]]", json!([1, 100, 1, 3, 26, 24])),
        ("[17 - true, 23 * {}, 5 * [7], 24 / '12', 7 / 2, 23 % 7]", json!([16, 0, 35, 2, 3.5, 2])),
        ("[2 + 3 * 4, (2 + 3) * 4, -2 + 5, 10 - 3 - 2, 8 / 2 / 2]", json!([14, 20, 3, 5, 2])),
        ("[1 + 1 == 2 AND 3 > 2 OR false, 1 < 2 == true]", json!([true, true])),
        ("[true ? 1 : 2, null ? : 'none', 5 ? : 'none']", json!([1, "none", 5])),
        ("1 > 2 ? 'a' : 2 > 1 ? 'b' : 'c'", json!("b")),
        ("[2..4, 4..2, 1..1]", json!([[2, 3, 4], [4, 3, 2], [1]])),
        (
            "[[1, 2, 3] ALL IN [1, 2, 3], [1, 2] ANY == 2, [1, 2] NONE > 5, [] ALL == 1]",
            json!([true, true, true, true]),
        ),
        // What is not there is null.
        (
            "[{ a: 1 }.b, { a: 1 }.b.c, (null).x, [1][5], [1, 2][-1], ('abc')[0]]",
            json!([null, null, null, null, 2, null]),
        ),
        ("{ [CONCAT('a', 'b')]: 1, 'c d': 2, `sort`: 3 }", json!({ "ab": 1, "c d": 2, "sort": 3 })),
        ("{ a: 1 }['a']", json!(1)),
        // Expansions.
        ("[{ n: 1 }, { n: 2 }, { m: 3 }][*].n", json!([1, 2, null])),
        ("[1, 2, 3, 4][* FILTER CURRENT % 2 == 0 LIMIT 1 RETURN CURRENT * 10]", json!([20])),
        ("[{ l: [{ n: 1 }, { n: 2 }] }, { l: [{ n: 3 }] }][*].l[*].n", json!([[1, 2], [3]])),
        ("[[1, 2], [3]][**]", json!([1, 2, 3])),
        ("(null)[*].n", json!([])),
        ("[1, [2], 'x'][* RETURN TYPENAME(CURRENT)]", json!(["number", "array", "string"])),
        // Numbers.
        ("[0x1F, 0b101, 1e3, .5, 1.50]", json!([31, 5, 1000, 0.5, 1.5])),
        (
            "[9007199254740993 + 0, 9223372036854775807 - 1]",
            json!([9_007_199_254_740_993_i64, 9_223_372_036_854_775_806_i64]),
        ),
        ("[FLOOR(1.7), CEIL(1.2), ROUND(2.5), ROUND(-2.5), ABS(-3)]", json!([1, 2, 3, -2, 3])),
        (
            "[SUM([1, null, 2]), AVERAGE([1, 2]), MIN([null, 2, 1]), MAX([]), LENGTH('äö')]",
            json!([3, 1.5, 1, null, 2]),
        ),
        (
            "[TO_NUMBER(' 12 '), TO_NUMBER('12x'), TO_STRING(1.0), TO_STRING(null), TO_BOOL([])]",
            json!([12, 0, "1", "", true]),
        ),
        ("[NOT_NULL(null, 2, 3), FIRST_LIST(1, [2]), FIRST([]), LAST([1, 2])]", json!([2, [2], null, 2])),
        // Times.
        (
            "DATE_FORMAT(0, '%dd.%mm.%yyyy %hh:%ii:%ss,%fff %www %mmm %xxx %m%&m 5%%')",
            json!("01.01.1970 00:00:00,000 Thu Jan 001 1m 5%"),
        ),
        ("DATE_ISO8601(1718000000123)", json!("2024-06-10T06:13:20.123Z")),
        (
            "[DATE_TIMESTAMP('2024-02-29'), DATE_TIMESTAMP('1969-12-31T23:59:59.999Z')]",
            json!([1_709_164_800_000_i64, -1]),
        ),
        ("DATE_ADD('2024-01-31', 1, 'month')", json!("2024-03-02T00:00:00.000Z")),
        (
            "[DATE_TRUNC('2024-05-17T10:20:30Z', 'month'), DATE_DIFF('2024-01-01', '2024-01-02', 'h')]",
            json!(["2024-05-01T00:00:00.000Z", 24]),
        ),
    ];
    for (expression, value) in cases {
        assert_eq!(
            client.rows(&format!("RETURN {expression}"), json!({})).await,
            json!([value]),
            "{expression}"
        );
    }
    double.assert_known();
}

#[tokio::test]
async fn clauses_do_what_is_documented() {
    let (double, client) = server().await;
    let people = "LET people = [{ n: 'a', c: 'x', i: 3 }, { n: 'b', c: 'y', i: 1 }, { n: 'c', c: 'x', i: 2 }, { n: 'd' }] ";
    for (query, rows) in [
        ("FOR p IN people SORT p.i DESC, p.n RETURN p.n", json!(["a", "c", "b", "d"])),
        ("FOR p IN people SORT p.i LIMIT 1, 2 RETURN p.n", json!(["b", "c"])),
        ("FOR p IN people SORT null LIMIT 2 RETURN p.n", json!(["a", "b"])),
        ("FOR p IN people RETURN DISTINCT p.c", json!(["x", "y", null])),
        (
            "FOR p IN people COLLECT c = p.c WITH COUNT INTO n RETURN [c, n]",
            json!([[null, 1], ["x", 2], ["y", 1]]),
        ),
        (
            "FOR p IN people COLLECT c = p.c INTO g RETURN [c, g[*].p.n]",
            json!([[null, ["d"]], ["x", ["a", "c"]], ["y", ["b"]]]),
        ),
        ("FOR p IN people COLLECT c = p.c INTO g = p.i RETURN g", json!([[null], [3, 2], [1]])),
        (
            "FOR p IN people LET k = p.n COLLECT c = p.c INTO g KEEP k RETURN g",
            json!([[{ "k": "d" }], [{ "k": "a" }, { "k": "c" }], [{ "k": "b" }]]),
        ),
        (
            "FOR p IN people COLLECT c = p.c AGGREGATE s = SUM(p.i), m = MAX(p.n) RETURN [c, s, m]",
            json!([[null, 0, "d"], ["x", 5, "c"], ["y", 1, "b"]]),
        ),
        ("FOR p IN people COLLECT AGGREGATE n = COUNT(1), a = AVERAGE(p.i) RETURN [n, a]", json!([[4, 2]])),
        ("FOR p IN people SORT p.n LIMIT 2, null RETURN p.n", json!(["c", "d"])),
        (
            "FOR p IN people COLLECT c = p.c OPTIONS { method: 'hash' } SORT c RETURN c",
            json!([null, "x", "y"]),
        ),
        ("FOR p IN [] COLLECT WITH COUNT INTO n RETURN n", json!([0])),
        (
            "FOR p IN people FILTER p.c == 'x' FOR q IN people FILTER q.c == p.c AND q.n != p.n RETURN [p.n, q.n]",
            json!([["a", "c"], ["c", "a"]]),
        ),
        (
            "LET xs = (FOR p IN people FILTER p.c == 'x' RETURN p.i) RETURN [xs, SUM(xs)]",
            json!([[[3, 2], 5]]),
        ),
        (
            "FOR p IN people RETURN LENGTH(FOR q IN people FILTER q.c == p.c LIMIT 1 RETURN 1)",
            json!([1, 1, 1, 1]),
        ),
        ("RETURN FIRST(FOR p IN people FILTER p.n == 'z' RETURN p)", json!([null])),
        ("FOR [k, v] IN [[1, 2], [3]] RETURN { k, v }", json!([{ "k": 1, "v": 2 }, { "k": 3, "v": null }])),
    ] {
        assert_eq!(client.rows(&format!("{people}{query}"), json!({})).await, rows, "{query}");
    }
    double.assert_known();
}

#[tokio::test]
async fn a_full_count_tells_what_the_limit_cut_off() {
    let (double, client) = server().await;
    let body = json!({ "query": "FOR i IN 1..10 FILTER i > 2 LIMIT 1, 3 RETURN i", "options": { "fullCount": true } });
    let answer = client.ask("POST", "/_api/cursor", body).await.json();
    assert_eq!((&answer["result"], &answer["extra"]["stats"]["fullCount"]), (&json!([4, 5, 6]), &json!(8)));
    double.assert_known();
}

#[tokio::test]
async fn bind_parameters_stand_for_values_attributes_and_collections() {
    let (double, client) = server().await;
    collections(&client, &["a"]).await;
    let insert = "FOR d IN @rows INSERT d INTO @@to";
    client.rows(insert, json!({ "@to": "a", "rows": [{ "_key": "1", "x": { "y": 5 } }] })).await;
    let read = "FOR d IN @@from FILTER d._key IN @keys RETURN [d.@name.y, d.@path]";
    let binds = json!({ "@from": "a", "keys": ["1"], "name": "x", "path": ["x", "y"] });
    assert_eq!(client.rows(read, binds).await, json!([[5, 5]]));
    client.rows(insert, json!({ "@to": "a", "rows": [] })).await;
    assert_eq!(client.rows("RETURN LENGTH(a)", json!({})).await, json!([1]));
    double.assert_known();
}
