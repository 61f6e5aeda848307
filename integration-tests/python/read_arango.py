"""Reads a mycelium that is kept in ArangoDB, with nothing but python-arango: no broker is asked. `read_arango.py URL DATABASE
FLOW` prints one JSON object of what it finds, of the jobs of one flow. `MYCELIUM_STORE_USER` and `MYCELIUM_STORE_PASSWORD`
say who reads."""
import json, os, sys

from arango import ArangoClient

URL, DATABASE, FLOW = sys.argv[1:]
USER, PASSWORD = os.environ["MYCELIUM_STORE_USER"], os.environ["MYCELIUM_STORE_PASSWORD"]
OURS = ["type", "fields", "sparse", "unique"]


def collections(db):
    return {one["name"]: one["type"] for one in db.collections() if not one["system"]}


def graphs(db):
    return {
        graph["name"]: {
            edges["edge_collection"]: [edges["from_vertex_collections"], edges["to_vertex_collections"]]
            for edges in graph["edge_definitions"]
        }
        for graph in db.graphs()
    }


def indexes(db, collection):
    return {index["name"]: {name: index[name] for name in OURS if name in index}
            for index in db.collection(collection).indexes()}


def read(db, query, **variables):
    # Batches of one, so that all but the first are asked for.
    return list(db.aql.execute(query, bind_vars=variables, batch_size=1))


def jobs(db):
    found = {}
    query = "FOR j IN Jobs FILTER j.flow == @flow SORT j.submit_ms, j.ord RETURN j"
    for job in read(db, query, flow=FLOW):
        assert db.collection("Jobs").get(job["_key"]) == job
        values = read(db, "FOR r IN Results FILTER r.job == @job RETURN r", job=job["_key"])
        for value in values:
            assert db.collection("Results").get(value["_key"]) == value
        found[job["task"]] = {
            "status": job["status"],
            "results": {value["name"]: value["value"] for value in values},
            "leads to": walk(db, "Jobs_graph", job["_id"], "task"),
            "failures": walk(db, "JobFailures_graph", job["_id"], "_key"),
        }
    return found


def walk(db, graph, start, name):
    query = 'FOR v IN 1..10 OUTBOUND @start GRAPH @graph OPTIONS { order: "bfs" } RETURN v[@name]'
    return read(db, query, start=start, graph=graph, name=name)


def failures(db):
    keys = read(db, "FOR f IN Failures FILTER f.place > @place SORT f.place RETURN f._key", place="")
    return {key: kept(db.collection("Failures").get(key), "type", "message", "occurrences") for key in keys}


def elves(db):
    keys = read(db, "FOR e IN MachineElves FILTER e.ord > @ord SORT e.ord RETURN e._key", ord="")
    return {key: kept(db.collection("MachineElves").get(key), "name", "tasks") for key in keys}


def kept(document, *names):
    return {name: document[name] for name in names}


client = ArangoClient(hosts=URL)
db = client.db(DATABASE, username=USER, password=PASSWORD, verify=True)
assert db.collection("Jobs").get("nobody") is None
print(json.dumps({
    "collections": collections(db),
    "graphs": graphs(db),
    "indexes": indexes(db, "Jobs"),
    "number of jobs": db.collection("Jobs").count(),
    "jobs": jobs(db),
    "failures": failures(db),
    "elves": elves(db),
}))
client.close()
