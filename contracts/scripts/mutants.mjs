// Removes one rule at a time from a copy of the sources and expects the named test to fail by an assertion.
// A mutant that survives, or that dies of something else than its assertion, fails the run.
// Usage: node scripts/mutants.mjs [part of a name]
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { tool } from "./tools.mjs";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const CLAIMS = "src/marketplace/Claims.sol";
const PAYOUTS = "src/marketplace/Payouts.sol";
const MARKET = "src/JobMarketplace.sol";
const EARNINGS = "src/HostEarnings.sol";

/** [name, file, text, replacement, test that must fail] */
const MUTANTS = [
  ["no rate cap", CLAIMS, "if (total > allowed) return (abi.encodeWithSelector(RateCap", "if (false) return (abi.encodeWithSelector(RateCap", "test_the_rate_cap_is_cumulative_so_waiting_is_never_forfeited"],
  ["no deposit bound", CLAIMS, "if (tokensClaimed > most || total > most)", "if (false)", "test_claims_never_exceed_the_deposit"],
  ["counts may wrap", CLAIMS, "tokensClaimed > most || ", "", "test_a_count_that_wraps_around_is_refused"],
  ["no minimum", CLAIMS, "if (tokensClaimed < MIN_PROVEN_TOKENS) {", "if (false) {", "test_fewer_than_the_minimum_are_refused_while_active"],
  ["many small claims", CLAIMS, "meter = meter.withClosedToClaims()", "meter = meter", "test_one_small_claim_is_accepted_in_closing_and_is_the_last"],
  ["no end of the window", CLAIMS, "if (block.timestamp > until)", "if (false)", "test_claims_are_accepted_up_to_the_end_of_the_window_inclusive"],
  ["window ends a second early", CLAIMS, "if (block.timestamp > until)", "if (block.timestamp >= until)", "test_claims_are_accepted_up_to_the_end_of_the_window_inclusive"],
  ["no first number", CLAIMS, "if (found != expected) return abi.encodeWithSelector(WrongFirstSeq", "if (false) return abi.encodeWithSelector(WrongFirstSeq", "test_a_duplicate_claim_is_refused"],
  ["no head before", CLAIMS, "if (found != expected) return abi.encodeWithSelector(WrongHeadBefore", "if (false) return abi.encodeWithSelector(WrongHeadBefore", "test_each_journal_word_is_checked_under_its_own_name"],
  ["no count", CLAIMS, "if (found != tokensClaimed)", "if (false)", "test_the_claim_and_its_journal_must_count_alike"],
  ["no chain id", CLAIMS, "if (found != block.chainid)", "if (false)", "test_a_fork_with_another_chain_id_takes_no_claims_of_the_first"],
  ["anyone claims", CLAIMS, "if (host != actingFor && !_isHostOrSubmitter(host))", "if (false)", "test_nobody_else_claims"],
  ["a refused host is remembered", CLAIMS, "NotHost.selector, msg.sender), actingFor)", "NotHost.selector, msg.sender), host)", "test_the_callers_right_is_asked_for_each_host"],
  ["no voucher bound", CLAIMS, "if (total > allowed) return (abi.encodeWithSelector(Voucher", "if (false) return (abi.encodeWithSelector(Voucher", "test_without_a_voucher_the_allowance_bounds_the_claims"],
  ["vouchers of anyone", CLAIMS, "recovered == signer) return true", "recovered != address(0)) return true", "test_only_the_signers_voucher_counts"],
  ["code before key", CLAIMS, "if (problem == ECDSA", "if (signer.code.length == 0 && problem == ECDSA", "test_a_signer_that_takes_on_code_cannot_revoke_its_vouchers"],
  ["mock proofs everywhere", CLAIMS, "kind == KIND_MOCK && !testDeployment", "false", "test_a_mock_proof_is_for_test_deployments"],
  ["seals are optional", CLAIMS, "if (meter.hasVerifier()) return abi.encodeWithSelector(SealRequired", "if (false) return abi.encodeWithSelector(SealRequired", "test_with_a_verifier_only_verified_seals_are_accepted"],
  ["no code verifies all", CLAIMS, "|| verifier.code.length == 0", "", "test_a_verifier_whose_code_is_gone_verifies_nothing"],
  ["development seals", CLAIMS, "|| bytes4(seal) == FAKE_SEAL", "", "test_development_mode_seals_are_refused_unasked"],
  ["finalize too early", MARKET, "require(block.timestamp > claimUntil, FinalizeTooEarly(claimUntil));", "claimUntil;", "test_others_finalize_after_the_window_and_not_before"],
  ["paid twice", MARKET, "job.meter = meter.withCompleted();", "", "test_a_job_is_paid_once"],
  ["minimum charge for nothing", MARKET, "if (tokens != 0) {", "{", "test_without_a_claim_the_whole_deposit_goes_back"],
  ["fee rounded up", MARKET, "charge * feeBps / BPS", "(charge * feeBps + BPS - 1) / BPS", "testFuzz_the_split_is_exact"],
  ["anyone closes", MARKET, "require(block.timestamp >= from, CloseTooEarly(from));", "from;", "test_others_may_request_it_when_the_session_was_idle_too_long"],
  ["deposits by hearsay", MARKET, "require(received == deposit, WrongDepositReceived(deposit, received));", "received;", "test_a_token_that_takes_a_cut_is_refused"],
  ["a failed push is lost", PAYOUTS, "if (!sent) _addCredit(to, token, amount);", "sent;", "test_a_depositor_that_cannot_receive_holds_up_nobody"],
  ["credits stay after withdrawal", PAYOUTS, "credits[msg.sender][token] = 0;", "", "test_a_depositor_that_cannot_receive_holds_up_nobody"],
  ["a push takes all gas", PAYOUTS, "sent := call(PUSH_GAS,", "sent := call(gas(),", "test_a_depositor_that_burns_gas_gets_a_credit_and_costs_a_bounded_amount"],
  ["any answer of a token is yes", PAYOUTS, "and(gt(returndatasize(), 31), eq(mload(0), 1))", "1", "test_a_token_that_fails_towards_the_client_holds_up_nobody"],
  ["the owner takes all", PAYOUTS, "uint256 amount = treasuryBalance[token];", "uint256 amount = IERC20(token).balanceOf(address(this));", "test_the_owner_withdraws_fees_and_nothing_else"],
  ["anyone credits", EARNINGS, "require(msg.sender == marketplace, NotMarketplace(msg.sender));", "", "test_only_the_marketplace_credits"],
  ["credits by hearsay", EARNINGS, "require(received == amount, WrongAmountReceived(amount, received));", "received;", "test_credits_come_with_their_money"],
  ["earnings stay after withdrawal", EARNINGS, "_balances[msg.sender][token] = available - amount;", "", "test_a_host_withdraws_to_its_payout_address"],
];

const wanted = process.argv[2] ?? "";
const copy = mkdtempSync(path.join(tmpdir(), "contract-mutants-"));
let killed = 0;
let failed = 0;
try {
  const room = path.join(copy, "contracts");
  for (const name of ["src", "test", "scripts", "foundry.toml", "package.json"]) {
    cpSync(path.join(root, name), path.join(room, name), { recursive: true });
  }
  symlinkSync(path.join(root, "node_modules"), path.join(room, "node_modules"));
  symlinkSync(path.join(root, "..", "crates"), path.join(copy, "crates"));
  for (const [name, file, text, replacement, test] of MUTANTS.filter(([name]) => name.includes(wanted))) {
    const target = path.join(room, file);
    const original = readFileSync(target, "utf8");
    if (original.split(text).length !== 2) throw new Error(`${name}: its text is not in ${file} exactly once`);
    writeFileSync(target, original.replace(text, () => replacement));
    // Linked dynamically, tests need not be compiled again when only a contract's body changed.
    const { status, stdout, stderr } = spawnSync(
      tool("forge"),
      ["test", "--match-test", `^${test}\\(`],
      { cwd: room, encoding: "utf8", env: { ...process.env, FOUNDRY_DYNAMIC_TEST_LINKING: "true" } },
    );
    writeFileSync(target, original);
    const line = stdout.split("\n").find((each) => each.startsWith("[FAIL") && each.includes(test));
    const byAssertion = line && !/EvmError|panic/i.test(line);
    if (status !== 0 && byAssertion) {
      killed += 1;
      console.log(`killed    ${name}: ${test}`);
    } else {
      failed += 1;
      console.log(`SURVIVED  ${name}: ${test}\n${line ?? `${stdout}${stderr}`.slice(-2000)}`);
    }
  }
} finally {
  rmSync(copy, { recursive: true, force: true });
}
console.log(`${killed} killed, ${failed} not`);
process.exit(failed === 0 && killed > 0 ? 0 : 1);
