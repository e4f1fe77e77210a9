//! Packets that get lost on the way to a host, or from it, while both ends believe that the cable is in.

use anyhow::{Context, Result, ensure};

use super::{Host, Network};

/// Which packets of a host are lost. Only IP is: what does not cross a router is none of a distant network's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// What others send to it.
    In,
    /// What it sends to others.
    Out,
    Both,
}

impl Network {
    /// From now on the switch drops these packets of a host without a word. Needs the command `nft`.
    pub fn lose(&self, host: &Host, loss: Loss) -> Result<()> {
        let port = &host.namespace.as_ref().context("this machine's own network is left alone")?.port;
        let (into, out_of) = (format!("oifname {port:?}"), format!("iifname {port:?}"));
        let lost: &[String] = match loss {
            Loss::In => &[into],
            Loss::Out => &[out_of],
            Loss::Both => &[into, out_of],
        };
        let mut script =
            "add table bridge loss; add chain bridge loss forward { type filter hook forward priority 0; }".to_owned();
        for way in lost {
            script.push_str(&format!("; add rule bridge loss forward {way} ether type ip drop"));
        }
        let output = std::process::Command::new("ip")
            .args(["netns", "exec", &self.switch, "nft", &script])
            .output()
            .context("running `ip`")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "packets cannot be dropped: {} (apt-get install nftables)", said.trim());
        Ok(())
    }
}
