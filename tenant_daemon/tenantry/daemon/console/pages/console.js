// The local console: asks for the daemon's state every two seconds and puts it into the page as text, never as markup.
"use strict";

(() => {
  const EVERY_MS = 2000;
  const PATIENCE_MS = 8000;
  const KEPT = "tenantry-session";
  const byId = (id) => document.getElementById(id);

  // --- the session: of this tab and this origin alone; a cookie would go to every other port of the same host

  async function enter() {
    const given = /^#ticket=([\w-]+)$/.exec(location.hash);
    if (given === null) return;
    history.replaceState(null, "", location.pathname);
    const answer = await call("/session", { method: "POST", headers: { authorization: `Ticket ${given[1]}` } });
    if (answer.ok) sessionStorage.setItem(KEPT, (await answer.json()).session);
  }

  function call(path, options) {
    return fetch(path, { ...options, cache: "no-store", credentials: "omit", redirect: "error", signal: AbortSignal.timeout(PATIENCE_MS) });
  }

  // --- putting text into the page; what is already there stays, so that a selection and the focus survive

  function setText(node, text, look = "") {
    if (node.textContent !== text) node.textContent = text;
    if (node.className !== look) node.className = look;
  }

  function children(parent, count, make) {
    while (parent.childElementCount > count) parent.lastElementChild.remove();
    while (parent.childElementCount < count) parent.append(make());
    return parent.children;
  }

  // Cells are texts, or pairs of a text and the class that it is shown with.
  const textOf = (cell) => (Array.isArray(cell) ? cell[0] : cell);
  const lookOf = (cell) => (Array.isArray(cell) ? cell[1] : "");

  function fillList(id, facts) {
    const shown = facts.filter(([, value]) => value !== null);
    const nodes = children(byId(id), 2 * shown.length, () => {
      const at = byId(id).childElementCount;
      return document.createElement(at % 2 === 0 ? "dt" : "dd");
    });
    shown.forEach(([name, value], at) => {
      setText(nodes[2 * at], name);
      setText(nodes[2 * at + 1], textOf(value), lookOf(value));
    });
  }

  function fillTable(id, rows) {
    const nodes = children(byId(id), rows.length, () => document.createElement("tr"));
    rows.forEach((row, at) => {
      const cells = children(nodes[at], row.length, () => document.createElement("td"));
      row.forEach((cell, column) => setText(cells[column], textOf(cell), lookOf(cell)));
    });
  }

  // Rows that have buttons belong to one thing each, by its key: a row that moves up must not be pressed for the one that was there before.
  function fillKeyed(id, rows) {
    const body = byId(id);
    const known = new Map([...body.children].map((node) => [node.dataset.key, node]));
    const nodes = rows.map((row) => known.get(row.key) ?? makeKeyed(row));
    for (const node of [...body.children]) if (!nodes.includes(node)) node.remove();
    nodes.forEach((node, at) => {
      if (body.children[at] !== node) body.insertBefore(node, body.children[at] ?? null);
      rows[at].cells.forEach((cell, column) => setText(node.children[column], textOf(cell), lookOf(cell)));
    });
  }

  function makeKeyed(row) {
    const node = document.createElement("tr");
    node.dataset.key = row.key;
    for (const _ of row.cells) node.append(document.createElement("td"));
    const last = document.createElement("td");
    for (const [what, text, about] of row.buttons) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = text;
      button.setAttribute("aria-label", `${text}: ${about}`);
      button.addEventListener("click", () => void act(row.key, what, last));
      last.append(button);
    }
    node.append(last);
    return node;
  }

  // A session goes along that no other page has, and that no browser sends by itself.
  async function act(tunnel, what, cell) {
    for (const button of cell.children) button.disabled = true;
    try {
      const session = sessionStorage.getItem(KEPT);
      const answer = await call(`/tunnels/${tunnel}/${what}`, { method: "POST", headers: { authorization: `Bearer ${session}` } });
      const problem = answer.ok ? "" : answer.headers.get("content-type") === "application/json" ? (await answer.json()).problem : await answer.text();
      setText(byId("tunnels-said"), problem, problem ? "bad" : "");
    } catch {
      setText(byId("tunnels-said"), "The daemon did not answer.", "bad");
    } finally {
      for (const button of cell.children) button.disabled = false;
    }
    await update().catch(tellTrouble);
  }

  // --- words

  const moment = (ms) => (ms === null || ms === undefined ? null : new Date(ms).toISOString().replace("T", " ").replace(/\..*/, " UTC"));
  const size = (bytes) => `${(bytes / (1 << 20)).toFixed(1)} MiB`;
  const labels = (all) => Object.entries(all).map(([name, value]) => `${name}=${value}`).join(", ");

  function span(ms) {
    const seconds = Math.max(0, Math.round(ms / 1000));
    if (seconds < 120) return `${seconds} s`;
    if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
    if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
    return `${Math.round(seconds / 86400)} days`;
  }

  const ago = (ms, now) => (ms === null || ms === undefined ? null : `${span(now - ms)} ago`);

  function describeState(all) {
    const firing = all.rules.filter((rule) => rule.standing.some((one) => one.firing)).length;
    return [
      ["State", [all.state, all.state === "alert" ? "bad" : ""]],
      ["Since", moment(all.state_since_ms)],
      ["Mode", all.stand_alone ? "stand-alone, without a Master" : "with a Master"],
      ["Rules", firing === 0 ? ["none fires", "good"] : [`${firing} firing`, "bad"]],
      ["Running", `for ${span(all.now_ms - all.started_ms)} (process ${all.pid})`],
      ["Version", all.version],
    ];
  }

  function describeIdentity(all) {
    const certificate = all.link && all.link.certificate;
    return [
      ["Machine", all.host],
      [all.stand_alone ? "Own GUID" : "GUID", all.guid],
      ["Trust domain", all.trust_domain ?? null],
      ["Authority", all.ca_fingerprint ?? null],
      ["Certificate", certificate ? certificate.serial : null],
      ["valid until", certificate ? moment(certificate.not_after_ms) : null],
      ["renewed", certificate && certificate.renewal_ms ? `after ${moment(certificate.renewal_ms)}` : null],
    ];
  }

  function describeLink(all) {
    const link = all.link;
    if (link === null) return [["Link", "none: this daemon runs without a Master"]];
    const audit = all.audit && all.audit.judgement !== null ? all.audit : null;
    return [
      ["Link", link.connected ? ["connected", "good"] : ["not connected", "bad"]],
      ["Master", link.address],
      ["Since", link.connected ? moment(link.since_ms) : null],
      ["Acknowledged", link.connected ? ago(link.acknowledged_ms, all.now_ms) : null],
      ["Why", link.trouble ? [link.trouble.message, "bad"] : null],
      ["What helps", link.trouble ? link.trouble.hint : null],
      ["Next attempt", link.reconnect_ms === null ? null : `in ${span(link.reconnect_ms - all.now_ms)}`],
      ["Clock", link.clock_offset_ms === null ? null : `${(link.clock_offset_ms / 1000).toFixed(1)} s from the Master's`],
      ["Audit", audit ? (audit.detail ? [audit.detail, "bad"] : `record ${audit.sequence} witnessed ${ago(audit.judged_ms, all.now_ms)}`) : null],
    ];
  }

  function describeLicence(licence) {
    if (!licence) return [["Licence", "none is known here"]];
    return [
      ["Licence", licence.in_force ? ["in force", "good"] : ["not in force; what runs goes on", "bad"]],
      ["Kind", licence.evaluation ? `${licence.kind}, for evaluation` : licence.kind],
      ["Holder", licence.holder],
      ["Until", moment(licence.not_after_ms)],
      ["Serial", licence.serial],
      ["From", licence.origin === "handed" ? "handed out by the Master" : "this machine's own"],
    ];
  }

  function describeSpool(all) {
    const spool = all.spool;
    return [
      ["Waiting", all.stand_alone ? null : `${spool.unacknowledged_records} records`],
      ["Oldest of them", all.stand_alone ? null : moment(spool.oldest_unacknowledged_ms)],
      ["Used", `${size(spool.bytes)} of ${size(spool.capacity_bytes)}`],
      ["Written so far", Object.entries(spool.next_seq).map(([stream, next]) => `${next - 1} ${stream}`).join(", ")],
      ["Refused", spool.refused_records === 0 ? "none" : [`${spool.refused_records} records`, "bad"]],
      ["Gaps", spool.gaps === 0 ? "none" : [`${spool.gaps}`, "wait"]],
    ];
  }

  function describeRule(rule, now) {
    const limits = `${rule.metric} ${rule.operator} ${rule.fire_at} for ${rule.for_s} s; over at ${rule.clear_at}`;
    const only = Object.keys(rule.labels).length > 0 ? ` (${labels(rule.labels)})` : "";
    const firing = rule.standing.filter((one) => one.firing);
    const waiting = rule.standing.length - firing.length;
    const standing = firing.map((one) => `${one.ending ? "fires, better for" : "fires for"} ${span(now - one.since_ms)}: ${[labels(one.labels), one.text].filter(Boolean).join(", ")}`);
    let state = ["quiet", "good"];
    if (!rule.enabled) state = "off";
    else if (standing.length > 0) state = [standing.join("; "), "bad"];
    else if (waiting > 0) state = [`waits: ${waiting} beyond the threshold`, "wait"];
    return [rule.name, state, limits + only, rule.severity];
  }

  function numbers(gap) {
    if (gap.first === null) return "a whole spool";
    return gap.first === gap.last ? `${gap.first}` : `${gap.first} to ${gap.last}`;
  }

  const who = (one) => `${one.operator}${one.address ? ` from ${one.address}` : ""}`;
  const places = (one) => one.targets.join(", ") || "wherever the policy allows";

  function describePolicy(tunnels) {
    const policy = tunnels.policy;
    if (policy === null) return [];
    const listed = policy.exists ? `${policy.entries} of ${policy.file}` : `none: there is no ${policy.file}`;
    return [
      ["Policy", policy.trouble ? [`nothing is allowed: ${policy.file}: ${policy.trouble}`, "bad"] : null],
      ["Entries", policy.trouble ? null : listed],
      ["This console", policy.console ? "may be reached through tunnels" : "may not be reached through tunnels"],
      ["Consent", policy.consent],
      ["Reason", policy.reason],
      ["Recording", policy.recording === "off" ? "off" : [`into ${policy.recording}`, "wait"]],
      ["Log", tunnels.log.trouble ? [`cannot be written: ${tunnels.log.trouble}`, "bad"] : null],
    ];
  }

  function showTunnels(all) {
    const tunnels = all.tunnels ?? null;
    byId("tunnels-section").hidden = tunnels === null;
    byId("waiting-section").hidden = tunnels === null || tunnels.waiting.length === 0;
    if (tunnels === null) return;
    fillKeyed("waiting", tunnels.waiting.map((one) => ({
      key: one.tunnel,
      cells: [[who(one), "other"], [places(one), "other"], [one.reason || "none was given", one.reason ? "other" : "wait"], moment(one.until_ms)],
      buttons: [["allow", "Yes", who(one)], ["deny", "No", who(one)]],
    })));
    const open = tunnels.held.filter((one) => one.state === "open");
    setText(byId("tunnels-none"), open.length === 0 ? "None." : tunnels.own === null ? "" : "You look through this one; others are not shown here.");
    byId("tunnels-table").hidden = open.length === 0;
    fillKeyed("tunnels", open.map((one) => ({
      key: one.tunnel,
      cells: [
        [who(one), "other"], [places(one), "other"], [one.reason || "none was given", "other"],
        moment(one.open_ms), moment(one.until_ms),
        [`${one.open_connections} of ${one.connections} open`, "number"], [`${size(one.bytes_up)} / ${size(one.bytes_down)}`, "number"],
      ],
      buttons: [["end", "End", who(one)]],
    })));
    fillList("tunnel-policy", describePolicy(tunnels));
  }

  function showMetrics(all) {
    const wanted = byId("filter").value.trim().toLowerCase();
    const found = all.metrics.values
      .map((one) => ({ ...one, labels: labels(one.labels) }))
      .filter((one) => `${one.name} ${one.labels}`.toLowerCase().includes(wanted));
    fillTable("metrics", found.map((one) => [one.name, one.labels, [one.text, "number"], ago(one.read_ms, all.now_ms) ?? ""]));
    const { total, values } = all.metrics;
    const shown = total > values.length ? `the first ${values.length} of ${total}` : `${total}`;
    setText(byId("metrics-count"), total === 0 ? "Nothing has been measured in this state yet." : `${found.length} of ${shown} values`);
  }

  function show(all) {
    setText(byId("name"), all.host);
    setText(byId("heading"), `Tenantry daemon ${all.version}, ${all.stand_alone ? "stand-alone" : `Tenant ${all.guid}`}`);
    document.title = `${all.state} – ${all.host} – Tenantry daemon`;
    setText(byId("spool-title"), all.stand_alone ? "History on this disk" : "Spool");
    fillList("state", describeState(all));
    fillList("identity", describeIdentity(all));
    fillList("link", describeLink(all));
    fillList("licence", describeLicence(all.licence));
    fillList("spool", describeSpool(all));
    showTunnels(all);
    fillTable("rules", all.rules.map((rule) => describeRule(rule, all.now_ms)));
    showMetrics(all);
    const gaps = all.spool.newest_gaps;
    const few = gaps.length < all.spool.gaps ? ` These are the newest ${gaps.length}.` : "";
    setText(byId("gaps-none"), gaps.length === 0 ? "Nothing that was measured is missing here." : `${all.spool.gaps} declared.${few}`);
    byId("gaps-table").hidden = gaps.length === 0;
    fillTable("gaps", gaps.map((one) => [one.stream, numbers(one), one.reason, one.detail]));
    const probes = Object.entries(all.probes);
    fillTable("probes", probes.map(([name, one]) => [name, `${one.interval_s} s`, [`${one.readings}`, "number"], ago(one.read_ms, all.now_ms) ?? "not yet", one.notes.join("; ")]));
    fillList("own", Object.entries(all.settings.own));
    byId("pushed-section").hidden = all.stand_alone === true;
    fillList("pushed", Object.entries(all.settings.pushed));
  }

  // --- going on

  let newest = null;

  function present(open) {
    byId("open").hidden = !open;
    byId("closed").hidden = open;
  }

  async function update() {
    const session = sessionStorage.getItem(KEPT);
    if (session === null) return false;
    const answer = await call("/status.json", { headers: { authorization: `Bearer ${session}` } });
    if (answer.status === 401) {
      sessionStorage.removeItem(KEPT);
      return false;
    }
    if (answer.status === 503) throw new Error((await answer.json()).problem);
    if (!answer.ok) throw new Error();
    newest = await answer.json();
    show(newest);
    return true;
  }

  function tellFreshness() {
    setText(byId("freshness"), "Live, every 2 s");
  }

  // What the network says is in the browser's words; what the daemon says has a message.
  function tellTrouble(error) {
    const said = error instanceof TypeError || error instanceof DOMException ? "" : error.message;
    const since = newest === null ? "" : ` What you see is of ${moment(newest.now_ms)}.`;
    setText(byId("freshness"), `${said ? `The daemon cannot tell: ${said}.` : "The daemon does not answer."}${since}`, "stale");
  }

  async function goOn() {
    while (true) {
      try {
        const open = await update();
        present(open);
        if (!open) {
          setText(byId("freshness"), "");
          return;
        }
        tellFreshness();
      } catch (error) {
        tellTrouble(error);
      }
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
      while (document.hidden) await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
    }
  }

  async function begin() {
    try {
      await enter();
    } catch (error) {
      tellTrouble(error);
    }
    await goOn();
  }

  byId("filter").addEventListener("input", () => newest !== null && showMetrics(newest));
  // A link that is pasted into a page that is open already changes nothing but the part behind the #.
  addEventListener("hashchange", () => location.hash.startsWith("#ticket=") && location.reload());
  void begin();
})();
