//! A graph in GraphML, which editors and libraries of graphs read.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::{Graph, parts};
use crate::output::format;

/// The name of an attribute that only `--values` gives.
const VALUES: &str = "values";

/// The graph as GraphML.
pub(super) fn render(graph: &Graph) -> String {
    let mut text = String::from(concat!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n",
        "<graphml xmlns=\"http://graphml.graphdrawing.org/xmlns\" ",
        "xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" ",
        "xsi:schemaLocation=\"http://graphml.graphdrawing.org/xmlns ",
        "http://graphml.graphdrawing.org/xmlns/1.0/graphml.xsd\">\n",
    ));
    let values = graph.values.as_ref().map(|_| VALUES);
    let of_nodes = parts::NODE.into_iter().chain(values).map(|name| ("node", name));
    let keys = [("graph", "name")].into_iter().chain(of_nodes).chain(parts::EDGE.map(|name| ("edge", name)));
    for (of, name) in keys {
        // Writing to a string cannot fail.
        let _infallible =
            writeln!(text, "  <key id=\"{name}\" for=\"{of}\" attr.name=\"{name}\" attr.type=\"string\"/>");
    }
    text.push_str("  <graph edgedefault=\"directed\">\n");
    data(&mut text, "name", &graph.title);
    let names = graph.values.as_ref().map(|values| values.outline(graph.jobs.iter()));
    for node in graph.nodes() {
        let _infallible = writeln!(text, "    <node id=\"{}\">", escape(&node.id));
        for (name, value) in node.attributes() {
            data(&mut text, name, &value);
        }
        if let (Some(job), Some(values), Some(names)) = (node.job, &graph.values, &names) {
            let lines = values.lines(&job.job_id, names).into_iter();
            let lines: Vec<_> = lines.flat_map(|(line, result)| [Some(line), result]).flatten().collect();
            data(&mut text, VALUES, &lines.join("\n"));
        }
        text.push_str("    </node>\n");
    }
    for edge in &graph.edges {
        let (from, to) = (format::id(&edge.from_job_id), format::id(&edge.to_job_id));
        let _infallible =
            writeln!(text, "    <edge source=\"{}\" target=\"{}\">", escape(&from), escape(&to));
        for (name, value) in parts::attributes(edge) {
            data(&mut text, name, &value);
        }
        text.push_str("    </edge>\n");
    }
    text.push_str("  </graph>\n</graphml>\n");
    text
}

fn data(text: &mut String, key: &str, value: &str) {
    let _infallible = writeln!(text, "      <data key=\"{key}\">{}</data>", escape(value));
}

/// Text of any kind between tags or in quotes. What people do not see is written as its number; what XML has not at all,
/// not even by number, is written out as in other formats.
fn escape(text: &str) -> Cow<'_, str> {
    let needs_none = |c: char| !matches!(c, '&' | '<' | '>' | '"' | '\'' | '\u{fffe}'..='\u{ffff}');
    if text.chars().all(|character| needs_none(character) && !format::is_hidden(character)) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\t' | '\n' | '\r' => {
                let _infallible = write!(escaped, "&#x{:x};", u32::from(character));
            }
            '\0'..='\u{1f}' | '\u{fffe}'..='\u{ffff}' => {
                escaped.extend(character.escape_default());
            }
            hidden if format::is_hidden(hidden) => {
                let _infallible = write!(escaped, "&#x{:x};", u32::from(hidden));
            }
            other => escaped.push(other),
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use mycelium_proto::v1::{Job, JobEdge, JobEdgeKind};
    use roxmltree::{Document, Node};

    use super::*;

    const NAMESPACE: &str = "http://graphml.graphdrawing.org/xmlns";

    fn elements<'a>(node: Node<'a, 'a>, name: &'static str) -> impl Iterator<Item = Node<'a, 'a>> {
        node.children().filter(move |child| child.has_tag_name((NAMESPACE, name)))
    }

    fn told(node: Node<'_, '_>) -> Vec<(String, String)> {
        let data = node.children().filter(|child| child.has_tag_name((NAMESPACE, "data")));
        let pair = |data: Node<'_, '_>| {
            (data.attribute("key").unwrap().to_owned(), data.text().unwrap_or_default().to_owned())
        };
        data.map(pair).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn jobs_are_nodes_and_dependencies_edges_with_what_is_known_of_them() {
        let strange = "a<b> & \"c\" 'd' ]]> \t\r\n é 蜜 🐝 \u{202e}\u{9b}\u{feff}";
        let job = Job {
            job_id: vec![2; 16].into(),
            flow_id: vec![3; 16].into(),
            task: "task_weigh".to_owned(),
            elf: strange.to_owned(),
            status: mycelium_proto::v1::JobStatus::UpstreamFailed.into(),
            ..Job::default()
        };
        let edge = |from: u8, kind: JobEdgeKind, output: &str, parameter: &str| JobEdge {
            from_job_id: vec![from; 16].into(),
            to_job_id: vec![2; 16].into(),
            output: output.to_owned(),
            parameter: parameter.to_owned(),
            kind: kind.into(),
        };
        let text = render(&Graph {
            title: strange.to_owned(),
            jobs: vec![job],
            edges: vec![
                edge(9, JobEdgeKind::Value, "we\"ight", strange),
                edge(9, JobEdgeKind::After, "", ""),
            ],
            ..Graph::default()
        });
        let document = Document::parse(&text).unwrap();
        let root = document.root_element();
        assert!(root.has_tag_name((NAMESPACE, "graphml")));
        let keys: Vec<_> = elements(root, "key")
            .map(|key| {
                assert_eq!(key.attribute("attr.type"), Some("string"));
                assert_eq!(key.attribute("attr.name"), key.attribute("id"));
                (key.attribute("for").unwrap(), key.attribute("id").unwrap())
            })
            .collect();
        let expected = [
            ("graph", "name"),
            ("node", "task"),
            ("node", "elf"),
            ("node", "status"),
            ("node", "flow"),
            ("edge", "kind"),
            ("edge", "output"),
            ("edge", "parameter"),
        ];
        assert_eq!(keys, expected);
        let graph = elements(root, "graph").next().unwrap();
        assert_eq!(graph.attribute("edgedefault"), Some("directed"));
        assert_eq!(told(graph), pairs(&[("name", strange)]));
        let id = |byte: u8| format::id(&[byte; 16]);
        let nodes: Vec<_> =
            elements(graph, "node").map(|node| (node.attribute("id").unwrap(), told(node))).collect();
        let flow = id(3);
        let of_job =
            [("task", "task_weigh"), ("elf", strange), ("status", "UPSTREAM_FAILED"), ("flow", &flow)];
        assert_eq!(nodes, [(id(2).as_str(), pairs(&of_job)), (&id(9), Vec::new())], "one is of another flow");
        let edges: Vec<_> = elements(graph, "edge")
            .map(|edge| {
                assert_eq!(edge.attribute("source"), Some(id(9).as_str()));
                assert_eq!(edge.attribute("target"), Some(id(2).as_str()));
                told(edge)
            })
            .collect();
        let of_value = [("kind", "VALUE"), ("output", "we\"ight"), ("parameter", strange)];
        assert_eq!(edges, [pairs(&of_value), pairs(&[("kind", "AFTER")])]);
    }

    #[test]
    fn what_xml_has_not_is_written_out() {
        let text = format!("<a b=\"{0}\">{0}</a>", escape("\0 \u{1b}[2J \u{fffe} \u{ffff}"));
        let document = Document::parse(&text).unwrap();
        let expected = r"\u{0} \u{1b}[2J \u{fffe} \u{ffff}";
        assert_eq!(document.root_element().text(), Some(expected));
        assert_eq!(document.root_element().attribute("b"), Some(expected));
        assert!(matches!(escape("as it is"), Cow::Borrowed(_)));
    }
}
