"use strict";
{
  const $ = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const WORDS = {
    ok: "something covers it", no_face: "no face was found", no_occlusion_prompts: "nothing covers it",
    no_face_prompts: "all of it is covered, or nothing is",
  };
  let photograph = null;  // the last answer
  let chosen = null;  // its face that is shown
  let prompts = new Map();  // token -> {kind, on}
  let cursor = 0;
  let timer = 0;
  let asked = 0;  // counts questions, so that an answer that comes too late is not shown
  let overlayUrl = "";

  const make = (name, attributes = {}) => {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  };
  const say = (text, isError = false) => {
    $("message").textContent = text;
    $("message").classList.toggle("error", isError);
  };
  const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

  async function answerOf(response) {
    const text = await response.text();
    let content;
    try { content = JSON.parse(text); } catch { throw new Error("The server is busy or gone; try again in a moment."); }
    if (!response.ok) throw new Error(content.error);
    return content;
  }

  async function ask(url, options) {
    let response;
    try { response = await fetch(url, options); } catch { throw new Error("The server cannot be reached, or closed the connection."); }
    return answerOf(response);
  }

  // ---- a photograph ----

  async function segment(file) {
    const mine = ++asked;
    clearTimeout(timer);
    document.body.classList.add("busy");
    say("Looking at the photograph");
    try {
      const type = ["image/jpeg", "image/png", "image/webp"].includes(file.type) ? file.type : "application/octet-stream";
      const answer = await ask("segment?mask=png&overlay=true&stages=true", { method: "POST", body: file, headers: { "Content-Type": type } });
      if (mine !== asked) return;
      photograph = answer;
      show();
    } catch (error) {
      if (mine === asked) say(error.message, true);
    } finally {
      if (mine === asked) document.body.classList.remove("busy");
    }
  }

  function show() {
    const faces = photograph.faces;
    document.body.classList.add("results");
    $("results").hidden = false;
    $("overlay").src = photograph.overlay;
    $("overlay").width = photograph.width;
    $("overlay").height = photograph.height;
    say(faces.length === 0 ? "No face was found." : faces.length === 1 ? "Done." : `Done: ${faces.length} faces.`);
    $("overlay").alt = faces.length === 0 ? "The photograph" : "The photograph; what covers a face is tinted";
    $("outlines").setAttribute("viewBox", `-0.5 -0.5 ${photograph.width} ${photograph.height}`);
    const choice = $("faces");
    choice.hidden = faces.length < 2;
    choice.replaceChildren(choice.firstElementChild);
    $("outlines").replaceChildren();
    faces.forEach((face, index) => {
      $("outlines").append(make("polygon", { points: face.crop_corners.map((corner) => corner.join(",")).join(" ") }));
      const label = document.createElement("label");
      const radio = Object.assign(document.createElement("input"), { type: "radio", name: "face", value: index, checked: index === 0 });
      radio.addEventListener("change", () => choose(index));
      label.append(radio, ` ${face.face}`);
      choice.append(label);
    });
    showTimings(photograph.timings_ms);
    choose(0);
    $("photograph-title").focus({ preventScroll: true });
    $("photograph-title").scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  }

  function choose(index) {
    chosen = photograph.faces[index] ?? null;
    [...$("outlines").children].forEach((outline, place) => outline.classList.toggle("chosen", place === index));
    const stages = chosen?.stages;
    $("stages").hidden = $("prompting").hidden = !stages;
    $("download").hidden = !chosen;
    showFacts(chosen ?? { status: "no_face" });
    if (!stages) return;
    for (const name of ["aligned", "parsing", "reference", "similarity", "mask"]) $(name).src = stages[name];
    $("board-picture").src = stages.aligned;
    showScale(stages.similarity_limits);
    reset(false);
  }

  function showFacts(face) {
    const facts = [["Face", face.abstained ? "most likely clean: too little was found to mark" : WORDS[face.status] ?? face.status]];
    if (face.status !== "no_face") facts.push(["Covered", percent(face.occluded_share)], ["Score", face.score.toFixed(3)]);
    facts.push(["Photograph", `${photograph.width} × ${photograph.height}`]);
    $("facts").replaceChildren(...facts.flatMap(([name, value]) => [
      Object.assign(document.createElement("dt"), { textContent: name }),
      Object.assign(document.createElement("dd"), { textContent: value }),
    ]));
    if (face.mask) setDownload(face.mask.png);
    noteMask(face.abstained ? "what was found, too little to mark" : face.status === "ok" ? `${percent(face.occluded_share)} of the face` : "empty");
  }

  function noteMask(text, isError = false) {
    $("mask-note").textContent = text;
    $("mask-note").classList.toggle("wrong", isError);
  }

  function setDownload(png) {
    URL.revokeObjectURL(overlayUrl);
    const bytes = Uint8Array.from(atob(png), (letter) => letter.charCodeAt(0));
    overlayUrl = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
    $("download").href = overlayUrl;
  }

  function showTimings(timings) {
    const rows = Object.entries(timings).filter(([name]) => name !== "total");
    const most = Math.max(1, ...rows.map(([, value]) => value));
    $("timings").replaceChildren(...[...rows, ["total", timings.total]].flatMap(([name, value]) => {
      const row = document.createElement("dd");
      row.append(`${value.toFixed(0)} ms`);
      if (name !== "total") {
        const bar = make("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" });
        bar.append(make("rect", { width: Math.max(0.5, 100 * value / most), height: 10 }));
        row.append(bar);
      }
      return [Object.assign(document.createElement("dt"), { textContent: name }), row];
    }));
  }

  function showScale([low, high]) {
    const colors = ["#440154", "#3b528b", "#21918c", "#5ec962", "#fde725"];  // viridis
    const bar = make("svg", { viewBox: "0 0 5 1", preserveAspectRatio: "none", "aria-hidden": "true" });
    colors.forEach((color, place) => bar.append(make("rect", { x: place, width: 1.05, height: 1, fill: color })));
    $("scale").replaceChildren(low.toFixed(2), bar, high.toFixed(2));
  }

  // ---- prompts ----

  function reset(decodeAgain = true) {
    prompts = new Map();
    for (const token of chosen.stages.occlusion_prompts) prompts.set(token, { kind: "occlusion", on: true });
    for (const token of chosen.stages.face_prompts) prompts.set(token, { kind: "face", on: true });
    cursor = chosen.stages.occlusion_prompts[0] ?? chosen.stages.face_prompts[0] ?? 0;
    draw();
    if (decodeAgain) decodeSoon();
  }

  function draw() {
    const { cols, shown_rows, shown_cols } = chosen.stages.grid;
    const marks = $("marks");
    marks.setAttribute("viewBox", `0 0 ${shown_cols} ${shown_rows}`);
    marks.replaceChildren();
    for (const [token, { kind, on }] of prompts) {
      const x = token % cols + 0.5, y = Math.floor(token / cols) + 0.5, looks = on ? kind : "off";
      marks.append(kind === "occlusion"
        ? make("circle", { cx: x, cy: y, r: 0.34, class: looks })
        : make("rect", { x: x - 0.25, y: y - 0.25, width: 0.5, height: 0.5, class: looks }));
    }
    const square = { x: cursor % cols, y: Math.floor(cursor / cols), width: 1, height: 1, class: "cursor" };
    marks.append(make("rect", square), make("rect", square));
    const count = (kind) => [...prompts.values()].filter((prompt) => prompt.on && prompt.kind === kind).length;
    const off = [...prompts.values()].filter((prompt) => !prompt.on).length;
    $("counts").textContent = `${count("occlusion")} cover, ${count("face")} face${off ? `, ${off} off` : ""}`;
  }

  function describe(token) {
    const { cols } = chosen.stages.grid, prompt = prompts.get(token);
    const what = prompt ? `${prompt.kind === "occlusion" ? "cover" : "face"}, ${prompt.on ? "on" : "off"}` : "no prompt";
    $("cursor").textContent = `Row ${Math.floor(token / cols) + 1}, column ${token % cols + 1}: ${what}`;
  }

  function act(token) {
    const tool = document.querySelector("input[name=tool]:checked").value, prompt = prompts.get(token);
    if (tool !== "toggle") prompts.set(token, { kind: tool, on: true });
    else if (prompt) prompt.on = !prompt.on;
    else { describe(token); return; }
    draw();
    describe(token);
    decodeSoon();
  }

  function nearest(x, y) {
    const { rows, cols } = chosen.stages.grid;
    const inside = (value, most) => Math.min(most - 1, Math.max(0, Math.floor(value)));
    const exact = inside(y, rows) * cols + inside(x, cols);
    if (document.querySelector("input[name=tool]:checked").value !== "toggle" || prompts.has(exact)) return exact;
    // A finger is larger than a token: the nearest prompt within reach is meant.
    const reach = matchMedia("(pointer: coarse)").matches ? 1.8 : 1;
    let best = exact, least = reach;
    for (const token of prompts.keys()) {
      const distance = Math.hypot(token % cols + 0.5 - x, Math.floor(token / cols) + 0.5 - y);
      if (distance < least) [best, least] = [token, distance];
    }
    return best;
  }

  function decodeSoon() {
    asked += 1;
    clearTimeout(timer);
    timer = setTimeout(decode, 150);
    $("prompting").classList.add("pending");
  }

  async function decode() {
    const mine = asked, face = chosen;
    const on = (kind) => [...prompts].filter(([, prompt]) => prompt.on && prompt.kind === kind).map(([token]) => token);
    const question = { id: face.stages.id, occlusion_prompts: on("occlusion"), face_prompts: on("face") };
    try {
      const answer = await ask("decode?mask=png", { method: "POST", body: JSON.stringify(question), headers: { "Content-Type": "application/json" } });
      if (mine !== asked) return;
      $("mask").src = answer.picture;
      showFacts(answer);
      noteMask(`${percent(answer.occluded_share)} of the face, from your prompts`);
    } catch (error) {
      if (mine === asked) noteMask(error.message, true);
    } finally {
      if (mine === asked) $("prompting").classList.remove("pending");
    }
  }

  $("board").addEventListener("click", (event) => {
    const box = $("board-picture").getBoundingClientRect(), { shown_rows, shown_cols } = chosen.stages.grid;
    cursor = nearest((event.clientX - box.left) / box.width * shown_cols, (event.clientY - box.top) / box.height * shown_rows);
    act(cursor);
  });
  $("board").addEventListener("keydown", (event) => {
    const { cols, shown_rows, shown_cols } = chosen.stages.grid;
    const [right, down] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    if (event.key === " " || event.key === "Enter") act(cursor);
    else if (right || down) {
      const bound = (value, most) => Math.min(Math.ceil(most) - 1, Math.max(0, value));
      cursor = bound(Math.floor(cursor / cols) + down, shown_rows) * cols + bound(cursor % cols + right, shown_cols);
      draw();
      describe(cursor);
    } else return;
    event.preventDefault();
  });
  for (const kind of ["occlusion", "face"]) {
    $(`off-${kind}`).addEventListener("click", () => {
      for (const prompt of prompts.values()) if (prompt.kind === kind) prompt.on = false;
      draw();
      decodeSoon();
    });
  }
  $("reset").addEventListener("click", () => reset());

  // ---- ways in ----

  async function tryExample() {
    const response = await fetch("example").catch(() => null);
    if (response?.ok) await segment(await response.blob());
    else if (response) await answerOf(response).catch((error) => say(error.message, true));
    else say("The server cannot be reached.", true);
  }

  $("file").addEventListener("change", (event) => {
    if (event.target.files.length) segment(event.target.files[0]);
    event.target.value = "";
  });
  $("example").addEventListener("click", tryExample);
  addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
    if (file) segment(file);
  });
  for (const name of ["dragover", "dragenter"]) {
    addEventListener(name, (event) => { event.preventDefault(); $("drop").classList.add("over"); });
  }
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").classList.remove("over"); });
  addEventListener("drop", (event) => {
    event.preventDefault();
    $("drop").classList.remove("over");
    if (event.dataTransfer.files.length) segment(event.dataTransfer.files[0]);
    else say("Drop a file, please.", true);
  });
  if (new URLSearchParams(location.search).has("example")) tryExample();
}
