"use strict";

// The values of a column: numbers where all cells have them, texts otherwise; empty ones come last either way.
function key(cell) {
  const value = "value" in cell.dataset ? cell.dataset.value : cell.textContent.trim();
  return value === "" ? null : Number.isNaN(Number(value)) ? value : Number(value);
}

function sort(header) {
  const column = header.cellIndex;
  const body = header.closest("table").tBodies[0];
  const rows = [...body.rows];
  const isText = rows.some((row) => typeof key(row.cells[column]) === "string");
  const before = header.getAttribute("aria-sort");
  const ascending = before ? before === "descending" : isText; // numbers begin with the largest
  rows.sort((first, second) => {
    const [a, b] = [key(first.cells[column]), key(second.cells[column])];
    if (a === null || b === null) return (a === null) - (b === null);
    const order = isText ? String(a).localeCompare(String(b)) : a - b;
    return ascending ? order : -order;
  });
  header.parentElement.querySelectorAll("[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
  header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  body.append(...rows);
}

function openTarget() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target && target.tagName === "DETAILS") {
    target.open = true;
    target.scrollIntoView();
  }
}

document.querySelectorAll("table.sortable thead button").forEach((button) => {
  button.addEventListener("click", () => sort(button.closest("th")));
});
window.addEventListener("hashchange", openTarget);
openTarget();
