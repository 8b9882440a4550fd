//! Finds the functions of a Rust source file and how long they are, by their braces. Strings, characters and
//! comments are skipped, so braces in them do not count.

/// A function with a body.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) first_line: usize,
    pub(crate) last_line: usize,
}

impl Function {
    /// Lines from `fn` to the closing brace.
    pub(crate) fn lines(&self) -> usize {
        self.last_line - self.first_line + 1
    }
}

#[derive(Clone, PartialEq, Debug)]
enum Token {
    Word(String),
    Sign(char),
}

/// Every function with a body, in the order of their beginnings.
pub(crate) fn functions(source: &str) -> Vec<Function> {
    let tokens = tokens(source);
    let is_fn = |at: &usize| matches!(&tokens[*at], (Token::Word(word), _) if word == "fn");
    (0..tokens.len()).filter(is_fn).filter_map(|at| function(&tokens, at)).collect()
}

fn function(tokens: &[(Token, usize)], at: usize) -> Option<Function> {
    // `fn(u8) -> u8` is a type: no name follows.
    let (Token::Word(name), _) = tokens.get(at + 1)? else { return None };
    let first_line = tokens[at].1;
    let (mut brackets, mut braces) = (0usize, 0usize);
    for (token, line) in &tokens[at + 2..] {
        match token {
            Token::Sign('(' | '[') => brackets += 1,
            Token::Sign(')' | ']') => brackets -= 1,
            Token::Sign(';') if brackets == 0 && braces == 0 => return None,
            Token::Sign('{') => braces += 1,
            Token::Sign('}') => {
                braces -= 1;
                if braces == 0 && brackets == 0 {
                    return Some(Function { name: name.clone(), first_line, last_line: *line });
                }
            }
            _ => {}
        }
    }
    None
}

/// Words and signs with their lines; strings, characters, lifetimes and comments left out.
fn tokens(source: &str) -> Vec<(Token, usize)> {
    let chars: Vec<char> = source.chars().collect();
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    while let Some(&c) = chars.get(at) {
        let end = match c {
            '/' if chars.get(at + 1) == Some(&'/') => line_comment(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => block_comment(&chars, at),
            '"' => string(&chars, at),
            '\'' => character(&chars, at),
            'r' | 'b' | 'c' if raw_string(&chars, at).is_some() => raw_string(&chars, at).unwrap_or(at + 1),
            c if c.is_alphanumeric() || c == '_' => {
                let end = word(&chars, at);
                found.push((Token::Word(chars[at..end].iter().collect()), line));
                end
            }
            c => {
                if !c.is_whitespace() {
                    found.push((Token::Sign(c), line));
                }
                at + 1
            }
        };
        line += chars[at..end.min(chars.len())].iter().filter(|c| **c == '\n').count();
        at = end;
    }
    found
}

fn word(chars: &[char], mut at: usize) -> usize {
    while chars.get(at).is_some_and(|c| c.is_alphanumeric() || *c == '_') {
        at += 1;
    }
    at
}

fn line_comment(chars: &[char], at: usize) -> usize {
    chars[at..].iter().position(|c| *c == '\n').map_or(chars.len(), |n| at + n)
}

fn block_comment(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(chars: &[char], mut at: usize) -> usize {
    at += 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// The end of a raw string that begins at `at`, when one does: `r"`, `r#"`, `br##"` and so on.
fn raw_string(chars: &[char], at: usize) -> Option<usize> {
    let mut open = at;
    while matches!(chars.get(open)?, 'b' | 'c') {
        open += 1;
    }
    if *chars.get(open)? != 'r' {
        return None;
    }
    let hashes = chars[open + 1..].iter().take_while(|c| **c == '#').count();
    let quote = open + 1 + hashes;
    if chars.get(quote) != Some(&'"') {
        return None;
    }
    let mut end = quote + 1;
    while end < chars.len() {
        let closes =
            chars[end] == '"' && chars[end + 1..].iter().take_while(|c| **c == '#').count() >= hashes;
        if closes {
            return Some(end + 1 + hashes);
        }
        end += 1;
    }
    Some(end)
}

/// A character literal, or only the quote of a lifetime.
fn character(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => {
            let rest = &chars[(at + 3).min(chars.len())..];
            rest.iter().position(|c| *c == '\'').map_or(chars.len(), |n| at + 4 + n)
        }
        (Some(_), Some('\'')) => at + 3,
        _ => at + 1,
    }
}
