//! Makes a new migration file reach the binary: `sqlx::migrate!` notices changed files, but not added ones.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
