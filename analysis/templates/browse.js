// Sorts and filters the images of the page; its state is in the address (#sort=iou&order=asc&kind=hands), so that a
// view can be bookmarked and sent. Without it everything is there, in the order it was written.
(() => {
  "use strict";
  const bar = document.getElementById("browse");
  if (!bar) return;
  const NEUTRAL = { find: "", kind: "", status: "", from: "", to: "", sort: "", order: "asc" };
  const lists = [...document.querySelectorAll("[data-list]")].map((element) => ({ element, all: [...element.children] }));
  const items = lists.flatMap((list) => list.all.filter((child) => child.dataset.id !== undefined));
  const values = new Map(items.map((item) => [item, JSON.parse(item.dataset.values || "{}")]));
  const first = bar.dataset.first;
  const count = document.getElementById("browse-count");
  const counted = items.filter((item) => item.closest("[data-counted]"));
  const control = (name) => bar.elements.namedItem(name);
  const known = (name, value) =>
    control(name)?.tagName !== "SELECT" || [...control(name).options].some((option) => option.value === value);

  const read = () => {
    const asked = new URLSearchParams(location.hash.slice(1));
    const wanted = (name, neutral) => (known(name, asked.get(name)) ? asked.get(name) ?? neutral : neutral);
    return Object.fromEntries(Object.entries(NEUTRAL).map(([name, neutral]) => [name, wanted(name, neutral)]));
  };

  const write = (state) => {
    const asked = new URLSearchParams(Object.entries(state).filter(([name, value]) => value !== NEUTRAL[name]));
    history.replaceState(null, "", "#" + asked);
    apply(state);
  };

  const shown = (item, state) => {
    const value = values.get(item)[first];
    return (
      item.dataset.id.toLowerCase().includes(state.find.toLowerCase()) &&
      (!state.kind || item.dataset.kind === state.kind) &&
      (!state.status || item.dataset.status === state.status) &&
      (state.from === "" || value >= Number(state.from)) &&
      (state.to === "" || value <= Number(state.to))
    );
  };

  const compare = (key, sign) => (one, other) => {
    const [a, b] = [values.get(one)[key], values.get(other)[key]];
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    return sign * (a - b);
  };

  const arrange = ({ element, all }, state) => {
    const mine = all.filter((child) => values.has(child));
    mine.forEach((item) => { item.hidden = !shown(item, state); });
    const sorted = state.sort ? mine.slice().sort(compare(state.sort, state.order === "desc" ? -1 : 1)) : all;
    element.append(...sorted);
    // A heading says why images stand below it: in another order it would be wrong, and without any it is empty.
    all.forEach((child, place) => {
      if (values.has(child)) return;
      const end = all.findIndex((other, index) => index > place && !values.has(other));
      const below = all.slice(place + 1, end < 0 ? undefined : end);
      child.hidden = Boolean(state.sort) || !below.some((item) => !item.hidden);
    });
    const empty = document.getElementById(element.dataset.list);
    if (empty) empty.hidden = mine.some((item) => !item.hidden);
  };

  const apply = (state) => {
    Object.entries(state).forEach(([name, value]) => { if (control(name)) control(name).value = value; });
    lists.forEach((list) => arrange(list, state));
    document.querySelectorAll("th[data-key]").forEach((head) => {
      const active = head.dataset.key === state.sort;
      if (active) head.setAttribute("aria-sort", state.order === "desc" ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    const left = counted.filter((item) => !item.hidden).length;
    count.textContent = `${left} of ${counted.length} images`;
  };

  document.querySelectorAll("th[data-key]").forEach((head) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const state = read();
      const again = state.sort === head.dataset.key && state.order === "asc";
      write({ ...state, sort: head.dataset.key, order: again ? "desc" : "asc" });
    });
  });
  bar.addEventListener("input", () => {
    write(Object.fromEntries(Object.entries(NEUTRAL).map(([name, value]) => [name, control(name)?.value ?? value])));
  });
  bar.addEventListener("submit", (event) => event.preventDefault());
  bar.addEventListener("reset", (event) => { event.preventDefault(); write(NEUTRAL); });
  // A link to a heading is no state of ours.
  window.addEventListener("hashchange", () => { if (location.hash.includes("=")) apply(read()); });
  bar.hidden = false;
  apply(read());
})();
