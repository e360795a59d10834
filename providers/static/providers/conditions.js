// Builds the conditions of a routing rule by a form and writes them as JSON into the field, which stays there for
// experts. What the rule does is told in words by the server while it is written.
document.addEventListener("DOMContentLoaded", () => {
  const field = document.querySelector("#id_conditions");
  const offer = document.querySelector("#conditions-offer");
  if (!field || !offer) return;
  const known = JSON.parse(offer.textContent);
  const TEXTS = { equals: "is", contains: "contains", matches: "matches (RE2)" };
  const KINDS = {
    account: { label: "Account", make: () => ({ values: [] }), list: known.accounts, hint: "Usernames, one a line" },
    sender: { label: "Sender", make: () => ({ values: [] }), hint: "Addresses or domains, one a line; * and ? stand for anything: *.acme.example" },
    recipient: { label: "Recipient", make: () => ({ values: [] }), hint: "Addresses or domains, one a line; * and ? stand for anything: gmail.com" },
    subject: { label: "Subject", make: () => ({ op: "contains", values: [] }), hint: "Texts, one a line: one of them must match" },
    header: { label: "Header", make: () => ({ name: "", op: "equals", values: [] }), hint: "Texts, one a line: one of them must match" },
    size: { label: "Size", make: () => ({ min: 1000000 }) },
    has_attachments: { label: "Attachments", make: () => ({ value: true }) },
    time: { label: "Time", make: () => ({ time_zone: "UTC", weekdays: [...known.weekdays].slice(0, 5), from: "08:00", to: "18:00" }) },
    percentage: { label: "Share of messages", make: () => ({ value: 10 }) },
  };
  const inputClass = document.querySelector("#id_name").className;
  let rows;
  let serial = 0;

  function el(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else if (value === true) made.setAttribute(key, "");
      else if (value !== false && value !== undefined) made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
  }
  const labelled = (text, control) => {
    control.id ||= `condition-control-${++serial}`;
    return el("span", { class: "condition-part" }, el("label", { for: control.id }, text), control);
  };
  const select = (choices, value, change) => {
    const made = el("select", { class: inputClass, onchange: () => change(made.value) },
      ...Object.entries(choices).map(([key, text]) => el("option", { value: key, selected: key === String(value) }, text)));
    return made;
  };
  const input = (type, value, change, more = {}) => {
    const made = el("input", { type, class: inputClass, oninput: () => change(made.value), ...more });
    made.value = value ?? "";
    return made;
  };
  const values = (row) => {
    const kind = KINDS[row.field];
    const made = el("textarea", {
      class: inputClass, rows: Math.max(2, Math.min(6, row.values.length + 1)),
      oninput: () => { row.values = made.value.split("\n").map((line) => line.trim()).filter(Boolean); write(); },
    });
    made.value = row.values.join("\n");
    const part = labelled(row.field === "account" ? "is one of" : "Values", made);
    part.append(el("span", { class: "hint" }, kind.hint));
    if (kind.list?.length) {
      part.append(select({ "": "Add an account …", ...Object.fromEntries(kind.list.map((name) => [name, name])) }, "", (name) => {
        if (name && !row.values.includes(name)) row.values.push(name);
        changed();
      }));
    }
    part.classList.add("condition-wide");
    return part;
  };
  const bound = (row, key, text) => labelled(text, input("number", row[key], (value) => {
    if (value === "") delete row[key]; else row[key] = Number(value);
    write();
  }, { min: 0, step: 1 }));
  const PARTS = {
    account: (row) => [values(row)],
    sender: (row) => [values(row)],
    recipient: (row) => [values(row)],
    subject: (row) => [labelled("How", select(TEXTS, row.op, (op) => { row.op = op; write(); })), values(row)],
    header: (row) => [
      labelled("Header", input("text", row.name, (name) => { row.name = name.trim(); write(); }, { placeholder: "X-Kind" })),
      labelled("How", select(TEXTS, row.op, (op) => { row.op = op; write(); })), values(row)],
    size: (row) => [bound(row, "min", "At least, octets"), bound(row, "max", "At most, octets")],
    has_attachments: (row) => [labelled("The message", select({ true: "has attachments", false: "has no attachments" }, row.value, (value) => { row.value = value === "true"; write(); }))],
    percentage: (row) => [labelled("Per cent of all messages", input("number", row.value, (value) => { row.value = value === "" ? "" : Number(value); write(); }, { min: 0, max: 100, step: "any" }))],
    time: (row) => [
      el("fieldset", { class: "condition-part" }, el("legend", {}, "Weekdays"), el("span", { class: "condition-days" }, ...known.weekdays.map((day) => {
        const box = el("input", { type: "checkbox", onchange: () => {
          const chosen = new Set(row.weekdays ?? known.weekdays);
          if (box.checked) chosen.add(day); else chosen.delete(day);
          row.weekdays = known.weekdays.filter((one) => chosen.has(one));
          if (row.weekdays.length === known.weekdays.length) delete row.weekdays;
          write();
        } });
        box.checked = (row.weekdays ?? known.weekdays).includes(day);
        return el("label", {}, box, ` ${day}`);
      }))),
      labelled("From", input("time", row.from ?? "00:00", (value) => { row.from = value; write(); })),
      labelled("To", input("time", row.to ?? "00:00", (value) => { row.to = value; write(); })),
      labelled("Time zone", select(Object.fromEntries([...new Set([row.time_zone, ...known.time_zones])].map((zone) => [zone, zone])), row.time_zone, (zone) => { row.time_zone = zone; write(); })),
    ],
  };

  const list = el("ol", { class: "conditions", "aria-label": "Conditions, all of which must hold" });
  const builder = el("div", { class: "conditions-builder" }, list);
  const says = el("p", { class: "note", role: "status", "aria-live": "polite" });
  const warns = el("p", { class: "note note-warning", hidden: true });
  const expert = el("details", { class: "conditions-expert" }, el("summary", {}, "Expert view (JSON)"));
  const adding = select({ "": "Add a condition …", ...Object.fromEntries(Object.entries(KINDS).map(([key, kind]) => [key, kind.label])) }, "", (kind) => {
    if (!kind) return;
    rows.push({ field: kind, ...KINDS[kind].make() });
    changed();
    list.lastElementChild.querySelector("input, select, textarea")?.focus();
  });
  adding.setAttribute("aria-label", "Add a condition");
  builder.append(adding);
  const holder = field.parentElement;
  const help = field.closest(".field-conditions, .form-row")?.querySelector(".leading-relaxed");
  holder.querySelector(":scope > .material-symbols-outlined")?.remove();
  field.before(builder, expert);
  expert.append(field, ...(help ? [help] : []));
  builder.after(says, warns);

  function draw() {
    list.replaceChildren(...rows.map((row, at) => el("li", { class: "condition" },
      el("div", { class: "condition-head" }, el("strong", {}, `${at ? "and " : ""}${KINDS[row.field].label}`),
        el("button", { type: "button", class: "tool", "aria-label": `Remove condition ${at + 1}`, onclick: () => { rows.splice(at, 1); changed(); adding.focus(); } }, "Remove")),
      el("div", { class: "condition-parts" }, ...PARTS[row.field](row)))));
    adding.value = "";
    if (!rows.length) list.append(el("li", { class: "condition hint" }, "No condition: the rule always matches."));
  }
  function write() {
    field.value = rows.length ? JSON.stringify(rows, null, 2) : "";
    describe();
  }
  function changed() { draw(); write(); }
  function read() {
    try {
      const found = JSON.parse(field.value.trim() || "[]") ?? [];
      if (!Array.isArray(found) || !found.every((row) => KINDS[row?.field] && (row.values === undefined || Array.isArray(row.values)))) throw new Error();
      const needed = found.every((row) => !("values" in KINDS[row.field].make()) || Array.isArray(row.values));
      if (!needed) throw new Error();
      rows = found;
      builder.hidden = false;
      draw();
    } catch {
      // What cannot be shown by the form is left to the expert view.
      builder.hidden = true;
      expert.open = true;
    }
  }

  let timer;
  let asked = 0;
  function describe() {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      const form = field.form;
      const body = new URLSearchParams({ conditions: field.value, rule: known.rule });
      for (const name of ["action", "priority", "tenant"]) body.set(name, form.elements[name]?.value ?? "");
      if (form.elements.enabled?.checked) body.set("enabled", "on");
      for (const provider of form.querySelectorAll("select[name^=targets-][name$=-provider]")) {
        const prefix = provider.name.slice(0, -"provider".length);
        if (!provider.value || form.elements[`${prefix}DELETE`]?.checked) continue;
        body.append("target", [provider.value, form.elements[`${prefix}position`]?.value ?? "", form.elements[`${prefix}weight`]?.value ?? ""].join(":"));
      }
      const mine = ++asked;
      try {
        const answer = await fetch(known.describe, { method: "POST", body, credentials: "same-origin", headers: { "X-CSRFToken": form.elements.csrfmiddlewaretoken.value } });
        const told = await answer.json();
        if (mine !== asked) return;
        says.textContent = told.error || told.text;
        says.className = `note ${told.error ? "note-bad" : ""}`;
        warns.textContent = told.warning || "";
        warns.hidden = !told.warning;
      } catch { /* The words are missing; nothing else is. */ }
    }, 250);
  }
  field.addEventListener("input", () => { read(); describe(); });
  field.form.addEventListener("change", describe);
  read();
  describe();
});
