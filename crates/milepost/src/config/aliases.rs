//! The known node's environment variables (SPEC §2.6), each with the key it stands for. Those that mean nothing here warn.

/// A variable and the key it sets; `None` where it is accepted and ignored with a warning.
pub(super) const ALIASES: &[(&str, Option<&str>)] = &[
    ("API_PORT", Some("node.listen")),
    ("MODEL_PATH", Some("model.path")),
    ("GPU_LAYERS", Some("model.gpu_layers")),
    ("MAX_CONTEXT_LENGTH", Some("model.context")),
    ("HOST_PRIVATE_KEY", Some("keys.submitter")),
    ("RPC_URL", Some("chain.rpc_url")),
    ("CHAIN_ID", Some("chain.chain_id")),
    ("CONTRACT_JOB_MARKETPLACE", Some("chain.marketplace")),
    ("CHECKPOINT_THRESHOLD", Some("gateway.checkpoint_threshold")),
    ("CONTRACT_HOST_EARNINGS", None),
    ("CONTRACT_NODE_REGISTRY", None),
    ("CONTRACT_PROOF_SYSTEM", None),
    ("CONTRACT_MODEL_REGISTRY", None),
    ("P2P_PORT", None),
    ("DISPUTE_WINDOW_SECONDS", None),
    ("LLAMA_BATCH_SIZE", None),
    ("MODEL_CHAT_TEMPLATE", None),
];

/// Why an ignored variable is ignored.
pub(super) fn why_ignored(name: &str) -> &'static str {
    match name {
        "CONTRACT_PROOF_SYSTEM" => "proofs go to the marketplace; this contract is never called",
        "CONTRACT_HOST_EARNINGS" | "CONTRACT_NODE_REGISTRY" | "CONTRACT_MODEL_REGISTRY" => "the marketplace names its own contracts",
        "P2P_PORT" => "hosts are found in the registry, there is no peer-to-peer port",
        "DISPUTE_WINDOW_SECONDS" => "the contract's own window is read from the chain",
        "MODEL_CHAT_TEMPLATE" => "the template comes from the model file",
        _ => "it has no counterpart here",
    }
}
