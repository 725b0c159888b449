"use strict";
// Sorts a table by the column whose head is pressed; remembers it, as the page may refresh itself.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const value = (row, column) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
  const sort = (column, direction) => {
    const rows = [...body.rows].sort((a, b) => direction *
      value(a, column).localeCompare(value(b, column), undefined, { numeric: true }));
    body.append(...rows);
    heads.forEach((head, at) => head.setAttribute("aria-sort", at !== column ? "none" : direction > 0 ? "ascending" : "descending"));
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      sort(column, direction);
      try { sessionStorage.setItem(table.id, column + " " + direction); } catch { /* not kept, then */ }
    });
  });
  try {
    const kept = sessionStorage.getItem(table.id);
    if (kept) sort(...kept.split(" ").map(Number));
  } catch { /* nothing is kept here */ }
}
