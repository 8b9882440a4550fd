// The node's page: live status, blocks and proofs over one WebSocket; search and receipts over POST.
// Everything shown comes from this node, and is put on the page as text, never as markup.
const ROWS = 12;
const RECEIPT_BYTES_MAX = 900_000;
const NOT_FOUND = -32040;
const $ = (id) => document.getElementById(id);

let nextId = 1;
async function call(method, params = {}) {
  let response;
  try {
    response = await fetch("/", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ jsonrpc: "2.0", id: nextId++, method, params }),
    });
  } catch { throw new Error("the node does not answer; is it still running?"); }
  if (!response.ok) throw new Error((await response.text()).trim() || `HTTP ${response.status}`);
  const answer = await response.json();
  if (answer.error) throw Object.assign(new Error(answer.error.message), answer.error);
  return answer.result;
}

function element(tag, content, className) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (content !== undefined && content !== null) made.append(...[content].flat());
  return made;
}

const short = (id) => `${id.slice(0, 8)}…${id.slice(-6)}`;

// Something that can be found again: its address is the page's with the id behind `#`.
function link(id, text = id) {
  const made = element("a", text, "id");
  made.href = `#${id}`;
  made.title = String(id);
  return made;
}

function age(ms) {
  if (ms < 1_000) return "under 1 s ago";
  if (ms < 120_000) return `${Math.round(ms / 1_000)} s ago`;
  if (ms < 7_200_000) return `${Math.round(ms / 60_000)} min ago`;
  return `${Math.round(ms / 3_600_000)} h ago`;
}

const utc = (time) => time.replace("T", " ").replace("Z", " UTC");

function pairs(rows, className) {
  const list = element("dl", undefined, className);
  for (const [name, value] of rows) {
    if (value === undefined || value === null || value === "") continue;
    const term = element("dt", name);
    const text = element("dd", value instanceof Node || Array.isArray(value) ? value : String(value));
    if (className === "facts") list.append(term, text); else list.append(element("div", [term, text]));
  }
  return list;
}

async function showStatus() {
  const s = await call("chain_status");
  $("name").textContent = [s.chain_name, s.moniker].filter(Boolean).join(" · ");
  document.title = `${s.chain_name} · Cairn node`;
  $("chain").textContent = s.chain;
  $("status").replaceChildren(...pairs([
    ["final height", s.height], ["last block", age(s.final_age_ms)], ["proofs anchored", s.anchors],
    ["pending", s.pending], ["links to peers", s.peers], ["validators", s.validators],
    ["epoch / view", `${s.epoch} / ${s.view}`], ["this node", `${s.role}, ${s.version}`],
    ["catching up", s.syncing ? `to ${s.best_known}` : null],
  ]).childNodes);
}

function row(body, cells, id) {
  const line = element("tr", [...cells.map((cell) => element("td", String(cell))), element("td", link(id, short(id)))]);
  if (body.querySelector("td[colspan]")) body.replaceChildren();
  body.prepend(line);
  while (body.children.length > ROWS) body.lastChild.remove();
}

function on(event) {
  if (event.kind === "block") {
    const b = event.block;
    row($("blocks"), [b.height, b.time.slice(11, 19), b.proofs], b.id);
  } else if (event.kind === "proof") {
    const p = event.proof;
    row($("proofs"), [p.seq, p.kind, p.leaves], p.proof_id);
  }
}

function live(up, text) {
  $("live").className = up ? "up" : "down";
  if ($("live-text").textContent !== text) $("live-text").textContent = text;
}

// Each stream resumes after the last event seen, so a lost connection loses nothing.
const streams = { chain_subscribe: null, proof_subscribe: null };
const events = { chain_event: "chain_subscribe", proof_event: "proof_subscribe" };
const WAIT_MIN_MS = 500, WAIT_MAX_MS = 10_000;
let wait = WAIT_MIN_MS;

async function connect() {
  try {
    if (streams.chain_subscribe === null) {
      // Proofs lie further back than blocks when the last blocks carry none.
      const { height, anchors } = await call("chain_status");
      const page = await call("proof_list", { limit: ROWS, cursor: String(Math.max(0, anchors - ROWS)) });
      for (const body of [$("blocks"), $("proofs")]) {
        if (!body.querySelector("td[colspan]")) body.replaceChildren();
      }
      for (const proof of page.items) if (proof.seq < anchors) on({ kind: "proof", proof });
      streams.chain_subscribe = String(Math.max(0, height - ROWS));
      streams.proof_subscribe = String(height);
    }
  } catch { return again(); }
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/websocket`);
  socket.onopen = () => {
    for (const [method, cursor] of Object.entries(streams)) {
      socket.send(JSON.stringify({ jsonrpc: "2.0", id: nextId++, method, params: { from_cursor: cursor } }));
    }
  };
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.error) { streams.chain_subscribe = null; return socket.close(); }
    wait = WAIT_MIN_MS;
    live(true, "live");
    const event = message.params?.result;
    if (!event) return;
    if (event.kind === "lagged" || event.kind === "error") return socket.close();
    streams[events[message.method]] = event.cursor;
    on(event);
  };
  socket.onclose = again;
}

function again() {
  live(false, "not connected, trying again");
  setTimeout(connect, wait);
  wait = Math.min(wait * 2, WAIT_MAX_MS);
}

function show(title, parts, { good, raw } = {}) {
  const heading = element("h3", title, good === undefined ? "" : good ? "good" : "bad");
  heading.tabIndex = -1;
  const shown = [heading, ...parts];
  if (raw !== undefined) {
    const text = element("pre", JSON.stringify(raw, null, 2));
    text.tabIndex = 0;
    shown.push(element("details", [element("summary", "As the API gives it"), text]));
  }
  $("answer").replaceChildren(...shown);
  heading.focus();
}

const problem = (title, error) =>
  show(title, [element("p", error.message), element("p", error.data?.hint ?? "", "note")], { good: false });

function showProof(p) {
  if (p.state !== "final") {
    const facts = [["proof", p.proof_id], ["transaction", link(p.tx_id)]];
    return show("Proof, not final yet", [pairs(facts, "facts")], { raw: p });
  }
  const receipt = element("a", "download it");
  receipt.href = `/v1/receipts/${p.proof_id}`;
  receipt.download = `${p.proof_id}.cairn`;
  show("Proof", [pairs([
    ["anchored", [utc(p.time), ", block ", link(p.height)]], ["number", p.seq], ["kind", p.kind],
    ["leaves", p.leaves], ["root", link(p.root)], ["proof", link(p.proof_id)], ["transaction", link(p.tx_id)],
    ["sender", link(p.sender)], ["reference", p.reference], ["previous", p.previous && link(p.previous)],
    ["also anchored", p.others && listed(p.others)], ["receipt of the root", receipt],
  ], "facts")], { raw: p });
}

const listed = (proofs) => proofs.flatMap((p) => [link(p.proof_id, short(p.proof_id)), " "]);

async function showBlock(header) {
  const { items, next_cursor } = await call("proof_list", { from: header.height, to: header.height, limit: 50 });
  const proofs = header.tx_count === 0 ? "none" : [...listed(items), items.length === 50 && next_cursor ? "…" : ""];
  show(`Block ${header.height}`, [pairs([
    ["time", utc(header.time)], ["block", link(header.id)],
    ["parent", header.height > 0 ? link(header.parent) : "none: this is the genesis"],
    ["epoch / view", `${header.epoch} / ${header.view}`], ["proposer", `validator ${header.proposer}`],
    ["transactions", header.tx_count], ["proofs", proofs], ["proofs up to here", header.anchors_size],
  ], "facts")], { raw: header });
}

function showTransaction(t) {
  const where = t.height === undefined || t.height === null ? "not yet" : ["block ", link(t.height), `, place ${t.index}`];
  show("Transaction", [pairs([
    ["transaction", t.tx_id], ["final", where], ["proofs", t.proofs && listed(t.proofs)],
  ], "facts")], { raw: t });
}

function showSender(page, sender) {
  if (page.items.length === 0) throw Object.assign(new Error("nothing of this name is known here"), { code: NOT_FOUND });
  const more = page.next_cursor ? ", the first" : "";
  show("Sender", [pairs([["address", sender], [`proofs${more}`, listed(page.items)]], "facts")], { raw: page });
}

async function find(text) {
  const query = text.trim().replace(/^(proof:|did:cairn:)?(0x)?/i, "").toLowerCase();
  $("query").value = query;
  const block = ["chain_header", { at: query }, showBlock];
  const tries = /^[0-9]{1,15}$/.test(query) ? [block]
    : /^[0-9a-f]{64}$/.test(query) ? [
      ["proof_get", { proof_id: query }, showProof], ["proof_get", { root: query }, showProof],
      ["tx_get", { tx_id: query }, showTransaction], block, ["proof_list", { sender: query, limit: 20 }, showSender]]
    : [];
  if (tries.length === 0) {
    return problem("That cannot be looked up", new Error("Expected a height, or an id of 64 hex digits."));
  }
  for (const [method, params, then] of tries) {
    try { return await then(await call(method, params), query); } catch (error) {
      if (error.code !== NOT_FOUND) return problem(error.code ? "Not found" : "Could not look that up", error);
    }
  }
  problem("Not found", new Error("No final proof, root, transaction, block or sender of this name is known to this node."));
}

function showVerdict(file, verdict) {
  const checks = element("ul", verdict.checks.map((check) => element("li", [
    element("b", check.ok ? "✓" : "✗", check.ok ? "good" : "bad"), ` ${check.name}: ${check.detail}`,
  ])), "checks");
  const r = verdict.record;
  const facts = r ? [pairs([["anchored", [utc(r.time), ", block ", link(r.height)]], ["proof", link(r.proof_id)], ["root", link(r.root)]], "facts")] : [];
  const failed = verdict.checks.find((check) => !check.ok);
  const title = verdict.valid ? `Valid: ${file.name}` : `Not valid: ${file.name}${failed ? `, the check “${failed.name}” failed` : ""}`;
  const scope = verdict.covers === "root" ? "This receipt is of a batch's root: it says nothing about a file or leaf. " : "";
  show(title, [...facts, checks, element("p", `${scope}Note: ${verdict.advice}.`, "note")], { good: verdict.valid });
}

async function check(file) {
  $("query").value = "";
  try {
    if (file.size > RECEIPT_BYTES_MAX) throw new Error("This file is too large for a receipt. Drop the .cairn file, not the file that was stamped.");
    let receipt;
    try { receipt = JSON.parse(await file.text()); } catch {
      throw new Error("This is no receipt: it is not JSON. Drop the .cairn file, not the file that was stamped.");
    }
    showVerdict(file, await call("receipt_verify", { receipt }));
  } catch (error) {
    problem(`Could not check ${file.name}`, error);
  }
}

function go() {
  const id = decodeURIComponent(location.hash.slice(1));
  if (id && id !== "main") find(id);
}

$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const hash = `#${encodeURIComponent($("query").value.trim())}`;
  if (location.hash === hash) go(); else location.hash = hash;
});
addEventListener("hashchange", go);
$("file").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  if (file) await check(file);
  event.target.value = ""; // the same file may be chosen again
});
// The whole page takes the drop: a browser would otherwise leave it to show the file.
for (const name of ["dragover", "dragenter"]) {
  addEventListener(name, (event) => { event.preventDefault(); document.body.classList.add("over"); });
}
addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); });
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  if (event.dataTransfer.files[0]) check(event.dataTransfer.files[0]);
});

connect();
const refresh = () => showStatus().catch(() => {});
refresh();
setInterval(refresh, 2_000);
go();
