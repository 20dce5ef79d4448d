//! The npm packages and the web page that is embedded in the binary.
//!
//! Decides whether they are up to date. Leaves building to npm and Vite.

use crate::Trouble;
use crate::child::Child;
use crate::place;
use crate::stamp::{Stamp, contents};

/// Installs the npm packages, exactly those of the lockfile, unless they are there already.
///
/// # Errors
/// [`Trouble::Failed`] when npm fails.
pub(crate) fn packages() -> Result<(), Trouble> {
    let inputs = ["package.json", "package-lock.json", "web/package.json", "e2e/package.json"];
    let (stamp, now) = (Stamp::of("npm"), contents(&place::root(), &inputs, &[]));
    if stamp.is(now) && place::root().join("node_modules/.package-lock.json").is_file() {
        println!("npm packages are up to date");
        return Ok(());
    }
    Child::new("npm", &["ci", "--no-progress"]).run()?;
    stamp.set(now)
}

/// Builds the page into `web/dist`, unless it was built from what is there now.
///
/// # Errors
/// [`Trouble::Failed`] when the build fails.
pub(crate) fn build() -> Result<(), Trouble> {
    let now = contents(&place::root(), &["web", "package-lock.json"], &["dist", "node_modules"]);
    let stamp = Stamp::of("web");
    if stamp.is(now) && place::root().join("web/dist/index.html").is_file() {
        println!("the web page is up to date");
        return Ok(());
    }
    Child::new("npm", &["run", "build", "-w", "web"]).run()?;
    stamp.set(now)
}
