//! `mycelium token`: makes secrets for clients and elves.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use mycelium_server::{Access, AccessFiles, Role};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::errors::Misuse;
use crate::output::Output;

/// What secrets begin with, so that they are found where they should not be.
pub(crate) const PREFIX: &str = "myc_";
/// How many random bytes a secret has.
const SECRET_BYTES: usize = 32;

/// Makes tokens, with which clients and elves show a broker who they are.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    New(NewArgs),
}

/// Makes a token, writes its entry into the broker's file, and prints the secret: once, and it is kept nowhere.
///
/// The broker reads the file again when it changes. To revoke the token, remove its entry. Whoever is to use the secret gets
/// it in MYCELIUM_TOKEN, or better in a file that MYCELIUM_TOKEN_FILE names.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Roles: submit (submit, follow and cancel jobs), serve (serve elves), read (see everything), operate (read, \
    and steer and delete), admin (everything).\n\n\
    JSON: {name, secret, sha256, file}.\n\n\
    The secret is for whoever uses it alone: umask 077 makes the file that it is written to unreadable for others.\n\n\
    Examples:\n  (umask 077; mycelium token new nightly --role submit --file tokens.toml > nightly.token)\n  \
    mycelium token new worker --role serve --elf 'resize*' --in pictures --expires 90days --file tokens.toml"
)]
struct NewArgs {
    /// Who is to have it: for the log, the audit, and messages. Each name once in a file.
    name: String,
    /// What may be done with it; may be given several times.
    #[arg(long = "role", required = true, value_name = "ROLE", value_parser = |text: &str| text.parse::<Role>())]
    roles: Vec<Role>,
    /// In which mycelium, `*` standing for any text; may be given several times. Default: all of them.
    #[arg(long = "in", value_name = "PATTERN")]
    mycelia: Vec<String>,
    /// As which elf, `*` standing for any text; may be given several times. Default: all of them.
    #[arg(long = "elf", value_name = "PATTERN")]
    elves: Vec<String>,
    /// For how long, such as 90days. Default: until it is revoked.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    expires: Option<Duration>,
    /// The file that the broker is given with --tokens; it is made if it is not there, and else stays for those who can read it.
    #[arg(long, env = "MYCELIUM_TOKENS", value_name = "FILE")]
    file: PathBuf,
}

pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<()> {
    let Command::New(args) = &args.command;
    if args.file.as_os_str().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
        // It is not shown.
        let problem = format!(
            "--file begins with {PREFIX}, as secrets do; a file that is called so is named with its folder"
        );
        bail!(Misuse(problem));
    }
    let mut random = [0; SECRET_BYTES];
    getrandom::fill(&mut random).context("the system gives no random bytes")?;
    let secret = format!("{PREFIX}{}", hex(&random));
    let sha256 = hex(&Sha256::digest(&secret));
    add(&args.file, &entry(args, &sha256)?)?;
    if output.is_json() {
        let file = args.file.display().to_string();
        let shown = json!({ "name": args.name, "secret": secret, "sha256": sha256, "file": file });
        return Ok(output.json(&shown)?);
    }
    Ok(output.line(&secret)?)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn entry(args: &NewArgs, sha256: &str) -> anyhow::Result<String> {
    let list = |names: &[String]| json!(names).to_string();
    let roles: Vec<String> = args.roles.iter().map(ToString::to_string).collect();
    let mut entry =
        format!("[[token]]\nname = {}\nsha256 = \"{sha256}\"\nroles = {}\n", json!(args.name), list(&roles));
    for (key, names) in [("mycelia", &args.mycelia), ("elves", &args.elves)] {
        if !names.is_empty() {
            entry.push_str(&format!("{key} = {}\n", list(names)));
        }
    }
    if let Some(expires) = args.expires {
        let Some(moment) = SystemTime::now().checked_add(expires) else {
            bail!(Misuse("--expires: there is no moment so far away".to_owned()));
        };
        entry.push_str(&format!("expires = {}\n", humantime::format_rfc3339_seconds(moment)));
    }
    Ok(entry)
}

/// Adds an entry to the file, which takes the place of the old one when all of it is written: a broker that reads it
/// meanwhile sees the one or the other. Whoever adds one at the same time waits.
fn add(file: &Path, entry: &str) -> anyhow::Result<()> {
    let file = &resolved(file)?;
    let shown = file.display();
    let folder = file.parent().unwrap_or(Path::new("/"));
    // The folder is locked, since another file takes the place of this one. It is free again when it is closed.
    let locked = File::open(folder).and_then(|folder| folder.lock().map(|()| folder));
    let _locked = locked.with_context(|| format!("cannot lock `{}`", folder.display()))?;
    let before = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read `{shown}`")),
    };
    let gap = match before.as_str() {
        "" => "",
        text if text.ends_with('\n') => "\n",
        _ => "\n\n",
    };
    let cannot = || format!("cannot write a file in `{}`", folder.display());
    // For its owner alone: nobody else on the machine needs to know who there is.
    let mut new = NamedTempFile::with_prefix_in(".tokens-", folder).with_context(cannot)?;
    new.write_all(format!("{before}{gap}{entry}").as_bytes()).with_context(cannot)?;
    keep_readers(file, new.as_file())?;
    new.as_file().sync_all().with_context(cannot)?;
    // Whatever a broker would not take is not put in its place.
    if let Err(problem) = Access::from_files(AccessFiles::new(new.path())) {
        let problem = problem.to_string().replace(&new.path().display().to_string(), &shown.to_string());
        bail!(Misuse(problem));
    }
    new.persist(file).with_context(|| format!("cannot replace `{shown}`"))?;
    Ok(())
}

/// The file itself where a link is named: what takes its place is not to take that of the link.
fn resolved(file: &Path) -> anyhow::Result<PathBuf> {
    let shown = file.display();
    let cannot = || format!("cannot find `{shown}`");
    match fs::symlink_metadata(file) {
        Ok(_) => {
            let real = fs::canonicalize(file).with_context(cannot)?;
            if !real.is_file() {
                bail!(Misuse(format!("`{shown}` is no file")));
            }
            Ok(real)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let Some(name) = file.file_name() else { bail!(Misuse(format!("`{shown}` names no file"))) };
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
            Ok(fs::canonicalize(folder.unwrap_or(Path::new("."))).with_context(cannot)?.join(name))
        }
        Err(error) => Err(error).with_context(cannot),
    }
}

/// Gives a new file to whom the old one belongs, with the same mode: a broker that runs as another user goes on reading it.
fn keep_readers(old: &Path, new: &File) -> anyhow::Result<()> {
    let shown = old.display();
    let cannot = || format!("cannot look at `{shown}`");
    let old = match fs::metadata(old) {
        Ok(old) => old,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(cannot),
    };
    let (user, group, given) = (old.uid(), old.gid(), new.metadata().with_context(cannot)?);
    if (given.uid(), given.gid()) != (user, group) {
        fchown(new, Some(user), Some(group)).with_context(|| {
            format!(
                "`{shown}` belongs to {user}:{group} (user and group), to whom this user cannot give the file that takes its \
                 place; run this as that user, or as root"
            )
        })?;
    }
    new.set_permissions(old.permissions()).with_context(cannot)
}
