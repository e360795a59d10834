// Puts the rows of a list in order by dragging or with the arrow buttons, and saves at once. Without it the same
// buttons send the form.
document.addEventListener("DOMContentLoaded", () => {
  const panel = document.querySelector("[data-order-url]");
  const table = document.querySelector("#result_list");
  if (!panel || !table) return;
  const status = panel.querySelector(".order-status");
  const token = () => document.querySelector("#changelist-form [name=csrfmiddlewaretoken]").value;
  const cells = () => [...table.querySelectorAll(".order[data-row]")];
  const rowOf = (cell) => cell.closest("tr");
  // The theme may give each row a tbody of its own.
  const unitOf = (row) => (row.parentElement.tagName === "TBODY" && row.parentElement.rows.length === 1 && table.tBodies.length > 1 ? row.parentElement : row);
  const tenantOf = (row) => row.querySelector(".order[data-row]")?.dataset.tenant;
  table.classList.add("ordered");

  const say = (text, bad) => {
    status.textContent = text;
    status.className = `order-status note ${bad ? "note-bad" : "note-good"}`;
  };

  async function save(tenant) {
    const mine = cells().filter((cell) => cell.dataset.tenant === tenant);
    const body = new URLSearchParams();
    for (const cell of mine) body.append("order", cell.dataset.row);
    say("Saving …");
    try {
      const answer = await fetch(panel.dataset.orderUrl, {
        method: "POST", body, credentials: "same-origin",
        headers: { Accept: "application/json", "X-CSRFToken": token() },
      });
      const told = await answer.json();
      if (!answer.ok) throw new Error(told.text);
      for (const cell of mine) cell.querySelector(".order-number").textContent = told.numbers[cell.dataset.row];
      say(told.text);
    } catch (error) {
      say(`Not saved: ${error.message || "no answer"} Load the page anew.`, true);
    }
  }

  table.addEventListener("click", (event) => {
    const button = event.target.closest(".order button");
    if (!button) return;
    event.preventDefault();
    const row = rowOf(button);
    const unit = unitOf(row);
    const up = button.value.endsWith(":up");
    const other = up ? unit.previousElementSibling : unit.nextElementSibling;
    const otherRow = other && (other.tagName === "TR" ? other : other.rows[0]);
    if (!otherRow || tenantOf(otherRow) !== tenantOf(row)) return say(up ? "It stands first already." : "It stands last already.");
    if (up) other.before(unit); else other.after(unit);
    button.focus();
    save(tenantOf(row));
  });

  let dragged = null;
  let before = null;
  const marks = () => table.querySelectorAll(".drop-here").forEach((row) => row.classList.remove("drop-here"));
  table.addEventListener("pointerdown", (event) => {
    const handle = event.target.closest(".handle");
    if (!handle) return;
    event.preventDefault();
    dragged = rowOf(handle);
    dragged.classList.add("dragged");
    before = undefined;
    handle.setPointerCapture(event.pointerId);
  });
  table.addEventListener("pointermove", (event) => {
    if (!dragged) return;
    marks();
    const rows = cells().map(rowOf).filter((row) => tenantOf(row) === tenantOf(dragged));
    before = rows.find((row) => event.clientY < row.getBoundingClientRect().top + row.offsetHeight / 2) ?? null;
    (before ?? rows[rows.length - 1]).classList.add("drop-here");
  });
  const end = (drop) => {
    if (!dragged) return;
    const row = dragged;
    dragged = null;
    row.classList.remove("dragged");
    marks();
    if (!drop || before === undefined || before === row) return;
    const rows = cells().map(rowOf).filter((one) => tenantOf(one) === tenantOf(row));
    if (before === null) {
      if (rows[rows.length - 1] === row) return;
      unitOf(rows[rows.length - 1]).after(unitOf(row));
    } else {
      if (rows[rows.indexOf(before) - 1] === row) return;
      unitOf(before).before(unitOf(row));
    }
    save(tenantOf(row));
  };
  table.addEventListener("pointerup", () => end(true));
  table.addEventListener("pointercancel", () => end(false));
});
