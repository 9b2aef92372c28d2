//! `cargo xtask corpus`.
pub fn corpus(_: &std::path::Path, _: &[&str]) -> anyhow::Result<()> {
    anyhow::bail!("not yet")
}
