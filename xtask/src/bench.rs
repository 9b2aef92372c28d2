//! `cargo xtask bench`.
pub fn bench(_: &[&str]) -> anyhow::Result<()> {
    anyhow::bail!("not yet")
}
