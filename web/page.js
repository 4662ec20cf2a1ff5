// The page: words in, answers out; the worker does the work.

import { build, drawAnswer, formatLexicon } from "./results.js";

/** Milliseconds without a keystroke before the model is asked. */
const TYPING_PAUSE = 150;

/** Rows drawn at once. */
const ROWS = 100;

/** Words to try, for models of English. */
const EXAMPLES = ["kubernetes", "photographer", "choir", "naïve"];

const MODEL_URL = new URL("model.onnx", location.href).href;
const STAGES = {
  runtime: "Loading ONNX Runtime",
  model: "Reading the model",
  start: "Starting the model",
};
const MEGABYTE = 1e6;

const element = (id) => document.getElementById(id);
const worker = new Worker("worker.js", { type: "module" });
/** What the page shows: the model, the answers so far of the words asked for, and the newest requests. */
const state = {
  metadata: undefined,
  size: "",
  answers: [],
  asked: 0,
  loadId: 0,
  pronounceId: 0,
  timer: 0,
};

// The model

function loadModel(source) {
  state.loadId += 1;
  element("model-problem").hidden = true;
  element("model-progress").hidden = false;
  element("model-progress").removeAttribute("value");
  element("model-status").textContent = source.file
    ? `Loading ${source.file.name}`
    : "Loading the model";
  worker.postMessage({ kind: "load", id: state.loadId, ...source });
}

function showProgress({ stage, loaded, total }) {
  const progress = element("model-progress");
  if (total > 0) {
    progress.value = loaded / total;
  } else {
    progress.removeAttribute("value");
  }
  const size = total > 0 ? `, ${(total / MEGABYTE).toFixed(0)} MB` : "";
  const text = STAGES[stage] + size;
  // A live region: said once for each stage, not for each megabyte.
  if (element("model-status").textContent !== text) {
    element("model-status").textContent = text;
  }
}

function showModel({ metadata, size }) {
  state.metadata = metadata;
  state.size = `${(size / MEGABYTE).toFixed(1)} MB`;
  element("model-progress").hidden = true;
  element("model-status").textContent = describeModel();
  element("words").lang = metadata.language;
  const facts = {
    Language: metadata.language,
    Notation: metadata.notation,
    Alphabets: `${metadata.letters.length} letters, ${metadata.phones.length} phones`,
    Arithmetic: metadata.precision,
    Size: state.size,
    ...(metadata.scores?.dev_wer === undefined
      ? {}
      : { "Word errors on dev": `${metadata.scores.dev_wer} %` }),
    ...(metadata.training?.data ? { "Learnt from": describeTraining(metadata.training) } : {}),
  };
  const rows = Object.entries(facts).map(([name, value]) =>
    build("div", {}, build("dt", {}, name), build("dd", {}, value)),
  );
  element("model-facts").replaceChildren(...rows);
  element("model-about").hidden = false;
  element("choose-model").textContent = "Choose another model file";
  element("examples").hidden = !/^en\b/i.test(metadata.language);
  ask();
}

function describeTraining({ data, training_words: words }) {
  return words === undefined ? data : `${data}, ${words.toLocaleString("en")} words`;
}

function describeModel() {
  return `Ready: ${nameOfLanguage(state.metadata.language)}, ${state.size}`;
}

function nameOfLanguage(tag) {
  try {
    return new Intl.DisplayNames("en", { type: "language" }).of(tag);
  } catch {
    return tag;
  }
}

function showModelProblem(message) {
  element("model-progress").hidden = true;
  // The former model stays at work.
  element("model-status").textContent = state.metadata ? describeModel() : "No model yet";
  element("model-problem").textContent = message;
  element("model-problem").hidden = false;
}

// Words and answers

function readWords() {
  return element("words")
    .value.split(/\r\n|\r|\n/)
    .filter((line) => line.trim() !== "");
}

function ask() {
  clearTimeout(state.timer);
  state.pronounceId += 1;
  state.answers = [];
  element("problem").hidden = true;
  const words = readWords();
  state.asked = words.length;
  if (words.length === 0 || !state.metadata) {
    element("summary").textContent = words.length > 0 ? "Waiting for the model" : "";
    clearAnswers();
  }
  if (state.metadata) {
    const count = Number(element("count").value);
    // No words at all end what the model is still busy with.
    worker.postMessage({ kind: "pronounce", id: state.pronounceId, words, count });
  }
}

function askSoon() {
  clearTimeout(state.timer);
  state.timer = setTimeout(ask, TYPING_PAUSE);
}

function clearAnswers() {
  element("answers").replaceChildren();
  element("more").hidden = true;
  element("actions").hidden = true;
}

function showAnswers({ answers, milliseconds }) {
  if (state.answers.length === 0) {
    clearAnswers();
  }
  state.answers.push(...answers);
  const done = state.answers.length;
  if (element("answers").childElementCount < ROWS) {
    drawMore(ROWS - element("answers").childElementCount);
  }
  showMore();
  if (done < state.asked) {
    element("summary").textContent = `${formatCount(done)} of ${formatCount(state.asked)} words`;
    return;
  }
  const words = done === 1 ? "1 word" : `${formatCount(done)} words`;
  element("summary").textContent = `${words} in ${formatDuration(milliseconds)}`;
  element("actions").hidden = false;
}

function drawMore(rows) {
  const list = element("answers");
  const start = list.childElementCount;
  const isOpen = state.asked === 1;
  list.append(
    ...state.answers
      .slice(start, start + rows)
      .map((answer) => drawAnswer(answer, state.metadata, isOpen)),
  );
}

function showMore() {
  const rest = state.answers.length - element("answers").childElementCount;
  element("more").hidden = rest === 0;
  element("more").textContent =
    `Show ${formatCount(Math.min(rest, ROWS))} more of ${formatCount(rest)}`;
}

const formatCount = (count) => count.toLocaleString("en");

const formatDuration = (milliseconds) =>
  milliseconds < 1000 ? `${Math.ceil(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;

function showProblem(message) {
  clearAnswers();
  element("summary").textContent = "";
  element("problem").textContent = message;
  element("problem").hidden = false;
}

async function copyAnswers() {
  try {
    await navigator.clipboard.writeText(formatLexicon(state.answers));
    element("summary").textContent = `${formatCount(state.answers.length)} lines copied`;
  } catch {
    element("summary").textContent = "The browser does not allow copying here: save instead";
  }
}

function saveAnswers() {
  const url = URL.createObjectURL(
    new Blob([formatLexicon(state.answers)], { type: "text/tab-separated-values" }),
  );
  build("a", { href: url, download: "lexicon.tsv" }).click();
  URL.revokeObjectURL(url);
}

// Wiring

const HANDLERS = {
  progress: showProgress,
  loaded: showModel,
  answers: showAnswers,
  failed: ({ of, message }) => (of === "load" ? showModelProblem(message) : showProblem(message)),
};

worker.addEventListener("message", ({ data }) => {
  const isAboutModel = data.kind === "progress" || data.kind === "loaded" || data.of === "load";
  // What an older request still says is of no interest.
  if (data.id === (isAboutModel ? state.loadId : state.pronounceId)) {
    HANDLERS[data.kind](data);
  }
});
worker.addEventListener("error", () =>
  showModelProblem("worker.js cannot be loaded: serve the whole folder"),
);

element("words").addEventListener("input", askSoon);
element("count").addEventListener("change", ask);
element("copy").addEventListener("click", copyAnswers);
element("save").addEventListener("click", saveAnswers);
element("more").addEventListener("click", () => {
  const first = element("answers").childElementCount;
  drawMore(ROWS);
  showMore();
  // The button may be gone, and whoever pressed it wants the new rows.
  element("answers").children[first]?.querySelector("summary").focus();
});
element("choose-model").addEventListener("click", () => element("model-file").click());
element("model-file").addEventListener("change", ({ target }) => {
  const [file] = target.files;
  if (file) {
    loadModel({ file });
  }
  // The same file can be chosen again, changed meanwhile.
  target.value = "";
});
element("examples").append(
  build("span", { "aria-hidden": "true" }, "Try"),
  ...EXAMPLES.map((word) => {
    const button = build("button", { type: "button", lang: "en" }, word);
    button.addEventListener("click", () => {
      element("words").value = word;
      ask();
    });
    return button;
  }),
);
loadModel({ url: MODEL_URL });
