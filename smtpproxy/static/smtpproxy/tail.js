// The live tail: asks every second and a half for what is newer than the last event seen, while the page is looked at.
"use strict";
{
  const table = document.getElementById("tail"), body = table.tBodies[0], state = document.getElementById("tail-state");
  const filter = document.getElementById("tail-filter"), pause = document.getElementById("tail-pause");
  const none = document.getElementById("tail-none"), most = Number(table.dataset.most);
  let after = "", paused = false, asking = false, asked = 0;

  const cell = (row, content) => { row.insertCell().append(content); };
  const show = (one) => {
    const row = body.insertRow(0), word = document.createElement("span");
    word.className = `badge badge-${one.tone}`;
    word.textContent = one.type;
    cell(row, one.time);
    cell(row, word);
    for (const text of [one.account, one.from, one.subject]) cell(row, text);
    if (one.link) {
      const link = document.createElement("a");
      link.href = one.link;
      link.textContent = one.message.slice(0, 13) + "…";
      cell(row, link);
    } else cell(row, one.message);
  };

  async function ask() {
    if (paused || asking || document.hidden) return;
    asking = true;
    const question = ++asked, query = new URLSearchParams(new FormData(filter));
    if (after) query.set("after", after);
    try {
      const answer = await fetch(`${table.dataset.feed}?${query}`, { headers: { Accept: "application/json" } });
      if (answer.redirected || !answer.ok) throw new Error(String(answer.status));
      const told = await answer.json();
      if (question === asked) {
        after = told.after;
        for (const one of told.rows.reverse()) show(one);
        while (body.rows.length > most) body.deleteRow(-1);
        none.hidden = body.rows.length > 0;
        state.textContent = "Live";
      }
    } catch (error) {
      state.textContent = "No answer; trying again. Sign in anew if this stays.";
    }
    asking = false;
  }

  const begin = () => { body.replaceChildren(); after = ""; none.hidden = false; asked++; asking = false; ask(); };
  let typing;
  filter.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(begin, 300); });
  filter.addEventListener("submit", (event) => { event.preventDefault(); begin(); });
  document.getElementById("tail-clear").addEventListener("click", () => { body.replaceChildren(); none.hidden = false; });
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    state.textContent = paused ? "Paused" : "Live";
    ask();
  });
  ask();
  setInterval(ask, 1500);
}
