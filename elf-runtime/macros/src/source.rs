//! The source text of an item as it was written.

use proc_macro2::{Span, TokenStream, TokenTree};
use sha2::{Digest, Sha256};

/// The text from the first token to the last, with the comments between them and the `//` comments right above.
///
/// The compiler joins two spans into one only on nightly, so the file is read and cut by lines and columns. Where
/// there is no file (tokens of a macro, a file that is gone), the tokens themselves are the text.
pub(crate) fn text(first: Span, last: Span, tokens: &TokenStream) -> String {
    let file = last.local_file().and_then(|path| std::fs::read_to_string(path).ok());
    file.and_then(|file| cut(&file, first, last)).unwrap_or_else(|| tokens.to_string())
}

/// The spans of the first and the last token, if there are any.
pub(crate) fn ends(tokens: &TokenStream) -> Option<(Span, Span)> {
    let mut all = tokens.clone().into_iter();
    let first = all.next()?;
    let last = all.last().unwrap_or_else(|| first.clone());
    let close = match &last {
        TokenTree::Group(group) => group.span_close(),
        TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => last.span(),
    };
    Some((first.span(), close))
}

/// The revision: SHA-256 over the text.
pub(crate) fn revision(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn cut(file: &str, first: Span, last: Span) -> Option<String> {
    let lines: Vec<&str> = file.split_inclusive('\n').collect();
    let (start, end) = (first.start(), last.end());
    let start_line = start.line.checked_sub(1)?;
    let mut begin = offset(&lines, start_line, start.column)?;
    let end = offset(&lines, end.line.checked_sub(1)?, end.column)?;
    // An item that begins its line takes the comments above it along, and the blank before it on its line.
    let before =
        &lines[start_line][..lines[start_line].len().min(byte_column(lines[start_line], start.column)?)];
    if before.trim().is_empty() {
        let comments =
            lines[..start_line].iter().rev().take_while(|line| line.trim_start().starts_with("//"));
        let bytes: usize = comments.map(|line| line.len()).sum();
        begin = begin - before.len() - bytes;
    }
    let text = file.get(begin..end)?;
    Some(without_indent(text))
}

/// Byte offset of a line (from 0) and a column in characters (from 0).
fn offset(lines: &[&str], line: usize, column: usize) -> Option<usize> {
    let before: usize = lines.get(..line)?.iter().map(|line| line.len()).sum();
    Some(before + byte_column(lines.get(line)?, column)?)
}

fn byte_column(line: &str, column: usize) -> Option<usize> {
    line.char_indices().map(|(index, _)| index).chain([line.len()]).nth(column)
}

/// Takes away the blanks that all lines begin with, so that a method reads as if it stood alone. Lines inside of a
/// text literal lose them as well, if they have them.
fn without_indent(text: &str) -> String {
    let indent = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| line.len() - line.trim_start_matches(' ').len())
        .min()
        .unwrap_or(0);
    let lines: Vec<&str> =
        text.lines().map(|line| line.get(indent..).unwrap_or_default().trim_end()).collect();
    lines.join("\n")
}

/// Tokens as one would write them: the compiler puts blanks between all of them.
pub(crate) fn pretty(tokens: &str) -> String {
    let mut text = tokens.split_whitespace().collect::<Vec<_>>().join(" ");
    for (spaced, tight) in [
        (" ,", ","),
        (" :: ", "::"),
        (":: ", "::"),
        (" ::", "::"),
        (" < ", "<"),
        ("< ", "<"),
        (" <", "<"),
        (" >", ">"),
        (" (", "("),
        ("( ", "("),
        (" )", ")"),
        ("& ", "&"),
        (" :", ":"),
        ("[ ", "["),
        (" ]", "]"),
        (" ;", ";"),
        (",)", ")"),
    ] {
        text = text.replace(spaced, tight);
    }
    // `->` loses its blank to the rule for `>`, and a tuple its blank to the one for `(`.
    text.replace(",(", ", (")
        .replace("- >", "->")
        .replace(" ->", "->")
        .replace("->", " -> ")
        .replace("->  ", "-> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_cut_out_with_its_comments_and_without_its_indent() {
        let file = "\
impl Scale {
    // not ours

    // Why it weighs: ü.
    /// Weighs.
    fn task_weigh(&self) {
        // inside
        1
    } // after
}
";
        let tokens: TokenStream = file.parse().unwrap();
        let body = tokens
            .into_iter()
            .find_map(|token| match token {
                TokenTree::Group(group) => Some(group.stream()),
                TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => None,
            })
            .unwrap();
        let (first, last) = ends(&body).unwrap();
        assert_eq!(
            cut(file, first, last).unwrap(),
            "// Why it weighs: ü.\n/// Weighs.\nfn task_weigh(&self) {\n    // inside\n    1\n}"
        );
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(byte_column("äb", 1), Some(2));
        assert_eq!(byte_column("äb", 2), Some(3));
        assert_eq!(byte_column("äb", 3), None);
    }

    #[test]
    fn without_a_file_the_tokens_are_the_text() {
        let tokens: TokenStream = "fn task_weigh ( ) { }".parse().unwrap();
        let (first, last) = ends(&tokens).unwrap();
        assert!(text(first, last, &tokens).starts_with("fn task_weigh"));
    }
}
