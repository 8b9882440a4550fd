//! One network for one test.

use std::path::Path;
use std::time::Duration;

use cairn_testnet::anchoring::{Anchorer, Wait, request};
use cairn_testnet::create::Options;
use cairn_testnet::invariants::{self, Checked};
use cairn_testnet::network::READY_PATIENCE;
use cairn_testnet::{CallFault, Fault, LocalNetwork, NodeApi, process};
use cairn_types::{Params, Scheme};
use serde_json::Value;
use tempfile::TempDir;

/// The program under test.
pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_cairn"))
}

/// Short views, so that a view led by a dead validator costs little time.
pub(crate) fn params() -> Params {
    Params { timeout_base_ms: 500, timeout_cap_ms: 4_000, drift_ms: 400, ..Params::default() }
}

/// The code of JSON-RPC for a request that can never be taken.
const INVALID_PARAMS: i64 = -32_602;

/// A running network and one sender on it. Dropping it ends every process.
pub(crate) struct Cluster {
    pub(crate) network: LocalNetwork,
    pub(crate) anchorer: Anchorer,
    _dir: TempDir,
}

impl Cluster {
    /// Validators with `dilithium3` keys, all ready.
    pub(crate) async fn start(validators: u16) -> Self {
        Self::start_with(validators, Scheme::Dilithium3).await
    }

    pub(crate) async fn start_with(validators: u16, scheme: Scheme) -> Self {
        Self::start_configured(validators, scheme, params(), "").await
    }

    /// Validators whose configuration goes on with `config`.
    pub(crate) async fn start_configured(
        validators: u16,
        scheme: Scheme,
        params: Params,
        config: &str,
    ) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let at = dir.path().join("network");
        let options = Options { validators, scheme, base_port: 0, params, ..Options::new(&at) };
        let network = LocalNetwork::create(&options, binary()).expect("the network is made");
        let genesis = cairn_genesis::load(&network.layout().genesis()).expect("its genesis is valid");
        let mut cluster = Self {
            network,
            anchorer: Anchorer::new(genesis, scheme).expect("its validators make a set"),
            _dir: dir,
        };
        cluster.network.nodes().for_each(|node| cluster.configure(node, config));
        cluster.start_all().await;
        cluster
    }

    /// Lets a stopped node's configuration go on with `config`.
    pub(crate) fn configure(&self, node: u16, config: &str) {
        let path = self.network.layout().node(node).home.join("config.toml");
        let text = std::fs::read_to_string(&path).expect("every home has a configuration");
        std::fs::write(path, format!("{text}\n{config}")).expect("it can be written");
    }

    /// Runs `cairn` with these arguments and `--json`; the answer, once it ended well.
    pub(crate) fn cairn(&self, arguments: &[&str]) -> Value {
        let output = process::cairn(binary()).args(arguments).arg("--json").output().expect("it runs");
        let said = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said));
        assert!(output.status.success(), "cairn {arguments:?}: {} {said:?}", output.status);
        serde_json::from_slice(&output.stdout).expect("an answer in JSON")
    }

    /// A node's home, as an argument.
    pub(crate) fn home(&self, node: u16) -> String {
        self.network.layout().node(node).home.display().to_string()
    }

    pub(crate) async fn start_all(&mut self) {
        self.network.start_all().expect("the nodes start");
        self.ready(self.network.nodes()).await;
    }

    pub(crate) async fn start_node(&mut self, node: u16) {
        self.network.start_node(node).expect("the node starts");
        self.ready([node]).await;
    }

    async fn ready(&mut self, nodes: impl IntoIterator<Item = u16>) {
        if let Err(fault) = self.network.wait_ready(nodes, READY_PATIENCE).await {
            panic!("{fault}");
        }
    }

    /// Kills every node that runs. One that dies by itself meanwhile is as gone as the others.
    pub(crate) fn kill_all(&mut self) {
        for node in self.network.running() {
            match self.network.kill_node(node) {
                Ok(_) | Err(Fault::NotRunning { .. }) => {}
                Err(fault) => panic!("node {node}: {fault}"),
            }
        }
    }

    pub(crate) fn api(&self, node: u16) -> NodeApi {
        self.network.api(node).expect("the node exists")
    }

    /// The bound of invariant (f).
    pub(crate) fn bound(&self) -> Duration {
        invariants::progress_bound(self.anchorer.genesis())
    }

    /// Anchors through a node; fails the test when it is not final in time.
    pub(crate) async fn anchor(&mut self, node: u16) -> Value {
        let (api, bound) = (self.api(node), self.bound());
        match self.anchorer.anchor_within(&api, bound).await {
            Ok(answer) => answer,
            Err(fault) => panic!("an anchor through node {node}: {fault}\n{}", self.network.log_tail(node)),
        }
    }

    /// Anchors through a node that has no quorum behind it.
    pub(crate) async fn try_anchor(&mut self, node: u16, patience: Duration) -> Result<Value, CallFault> {
        let api = self.api(node);
        self.anchorer.anchor_within(&api, patience).await
    }

    /// Submits a transaction that is as good as 40 kB: the block that holds it has its body in a file of the state's own. Whether
    /// the node is there to take it is another matter.
    pub(crate) async fn submit_large(&self, node: u16) {
        let signed = self.anchorer.transaction_of(40, 1_024).unwrap();
        let answer = self.api(node).post(request(&signed, Wait::Accepted)).await;
        assert!(!matches!(answer, Err(CallFault::Refused { code: INVALID_PARAMS, .. })), "{answer:?}");
    }

    pub(crate) async fn height(&self, node: u16) -> u64 {
        invariants::height(&self.api(node)).await.expect("the node answers chain_status")
    }

    pub(crate) async fn reaches(&self, node: u16, height: u64) {
        let api = self.api(node);
        assert!(
            invariants::reaches(&api, height, self.bound()).await,
            "node {node} is at {:?}, not at {height}\n{}",
            invariants::height(&api).await,
            self.network.log_tail(node)
        );
    }

    /// Checks everything that must never happen.
    pub(crate) async fn check(&mut self) -> Checked {
        match invariants::check(&self.network, &mut self.anchorer).await {
            Ok(checked) => checked,
            Err(violations) => panic!("{violations}"),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(fault) = self.network.stop_all() {
            eprintln!("a node was left behind: {fault}");
        }
    }
}
