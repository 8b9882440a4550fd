// The node's page: live status, blocks and proofs over one WebSocket; search and receipts over POST.
// Everything shown comes from this node, and is put on the page as text, never as markup.
const ROWS = 12;
const $ = (id) => document.getElementById(id);

let nextId = 1;
async function call(method, params = {}) {
  const response = await fetch("/", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ jsonrpc: "2.0", id: nextId++, method, params }),
  });
  if (!response.ok) throw new Error(await response.text());
  const answer = await response.json();
  if (answer.error) throw Object.assign(new Error(answer.error.message), answer.error);
  return answer.result;
}

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function age(ms) {
  if (ms < 1_000) return `${ms} ms`;
  if (ms < 120_000) return `${(ms / 1_000).toFixed(1)} s`;
  return `${Math.round(ms / 60_000)} min`;
}

async function showStatus() {
  const s = await call("chain_status");
  $("name").textContent = [s.chain_name, s.moniker].filter(Boolean).join(" · ");
  const figures = {
    "final height": s.height, "last block": `${age(s.final_age_ms)} ago`, "anchored proofs": s.anchors,
    "pending": s.pending, "peers": s.peers, "validators": s.validators, "epoch / view": `${s.epoch} / ${s.view}`,
    "role": s.role, "version": s.version,
  };
  $("status").replaceChildren(...Object.entries(figures).map(([name, value]) => {
    const cell = element("div");
    cell.append(element("dt", name), element("dd", String(value)));
    return cell;
  }));
}

function row(body, cells, id) {
  const line = element("tr");
  for (const cell of cells) line.append(element("td", String(cell)));
  const last = element("td");
  const open = element("button", id);
  open.type = "button";
  open.title = id;
  open.addEventListener("click", () => find(id));
  last.append(open);
  line.append(last);
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
  $("live-text").textContent = text;
}

// Each stream resumes after the last event seen, so a lost connection loses nothing.
const streams = { chain_subscribe: null, proof_subscribe: null };
const events = { chain_event: "chain_subscribe", proof_event: "proof_subscribe" };
let wait = 500;

async function connect() {
  try {
    if (streams.chain_subscribe === null) {
      const { height } = await call("chain_status");
      const from = String(Math.max(0, height - ROWS));
      streams.chain_subscribe = streams.proof_subscribe = from;
    }
  } catch { return again(); }
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/websocket`);
  socket.onopen = () => {
    wait = 500;
    live(true, "live");
    for (const [method, cursor] of Object.entries(streams)) {
      socket.send(JSON.stringify({ jsonrpc: "2.0", id: nextId++, method, params: { from_cursor: cursor } }));
    }
  };
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    const event = message.params?.result;
    if (message.error) { streams.chain_subscribe = null; return socket.close(); }
    if (!event) return;
    if (event.kind === "lagged" || event.kind === "error") return socket.close();
    streams[events[message.method]] = event.cursor;
    on(event);
  };
  socket.onclose = again;
}

function again() {
  live(false, "not connected; trying again");
  setTimeout(connect, wait);
  wait = Math.min(wait * 2, 10_000);
}

function show(title, value, good) {
  const heading = element("h3", title, good === undefined ? "" : good ? "good" : "bad");
  const body = element("pre", JSON.stringify(value, null, 2));
  body.tabIndex = 0;
  $("answer").replaceChildren(heading, body);
}

async function find(text) {
  const query = text.trim().replace(/^0x/i, "").toLowerCase();
  const tries = /^[0-9]{1,20}$/.test(query)
    ? [["Block", "chain_header", { at: query }]]
    : [["Proof", "proof_get", { proof_id: query }], ["Root", "proof_get", { root: query }],
       ["Transaction", "tx_get", { tx_id: query }], ["Block", "chain_header", { at: query }]];
  $("query").value = query;
  let last;
  for (const [title, method, params] of tries) {
    try { return show(title, await call(method, params)); } catch (error) { last = error; }
  }
  show("Nothing found", { message: last?.message, ...last?.data }, false);
}

async function check(file) {
  try {
    if (file.size > 900_000) throw new Error("this file is too large for a receipt");
    const receipt = JSON.parse(await file.text());
    const verdict = await call("receipt_verify", { receipt });
    show(verdict.valid ? `Valid: ${file.name}` : `Not valid: ${file.name}`, verdict, verdict.valid);
  } catch (error) {
    show(`Could not check ${file.name}`, { message: error.message }, false);
  }
}

$("search").addEventListener("submit", (event) => { event.preventDefault(); find($("query").value); });
$("file").addEventListener("change", (event) => { if (event.target.files[0]) check(event.target.files[0]); });
const drop = $("drop");
for (const name of ["dragover", "dragenter"]) {
  drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  if (event.dataTransfer.files[0]) check(event.dataTransfer.files[0]);
});

connect();
showStatus().catch(() => {});
setInterval(() => showStatus().catch(() => live(false, "the node does not answer")), 2_000);
