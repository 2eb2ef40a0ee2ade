"use strict";
// Nothing here is needed to read a page: it sorts tables by a click on a heading, copies a command, completes names.
for (const table of document.querySelectorAll("table")) {
  table.querySelectorAll("thead th").forEach((head, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.textContent = "";
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") === "descending";
      table.querySelectorAll("th").forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => {
        const cell = row.cells[index];
        return cell.dataset.sort === undefined ? cell.textContent.trim() : Number(cell.dataset.sort);
      };
      const rows = [...table.tBodies[0].rows].map((row) => [key(row), row]);
      rows.sort(([a], [b]) => {
        const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
        return up ? order : -order;
      });
      table.tBodies[0].append(...rows.map(([, row]) => row));
    });
  });
}
for (const code of document.querySelectorAll("code.copy")) {
  if (!navigator.clipboard) continue;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", () => navigator.clipboard.writeText(code.textContent));
  code.after(" ", button);
}
document.querySelectorAll("input[data-complete]").forEach((input, index) => {
  const list = document.createElement("datalist");
  list.id = `names-${index}`;
  input.setAttribute("list", list.id);
  input.autocomplete = "off";
  input.after(list);
  const ask = async () => {
    const said = input.value;
    // of the page of one thing, another field tells its kind
    const kind = input.dataset.complete === "thing" ? input.form.elements.kind?.value : input.dataset.complete;
    if (!kind || kind === "job") return;
    const answer = await fetch(`/complete/${kind}?${new URLSearchParams({ prefix: said })}`).catch(() => null);
    if (!answer?.ok || input.value !== said) return;
    const { names } = await answer.json();
    list.replaceChildren(...names.map((name) => Object.assign(document.createElement("option"), { value: name })));
  };
  let waiting = 0;
  input.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(ask, 150);
  });
  input.addEventListener("focus", ask);
});
