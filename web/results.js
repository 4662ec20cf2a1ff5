// Draws answers: a row for each word, which opens to its pronunciations and to the letters that they come from.

import { phoneToIpa, toIpa } from "./ipa.js";

/** Returns an element with attributes and children; a child is an element, a text, or nothing. */
export function build(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== undefined));
  return element;
}

/** Returns a probability in percent, with one digit where that tells something. */
export function formatProbability(probability) {
  const percent = 100 * probability;
  if (percent < 0.1) {
    return "< 0.1 %";
  }
  return `${percent.toFixed(percent < 9.95 ? 1 : 0)} %`;
}

/** Returns the lexicon lines of answers: word, tab, phones of the best pronunciation. */
export function formatLexicon(answers) {
  return answers
    .map(
      ({ word, choices }) =>
        `${word.replaceAll("\t", " ")}\t${choices[0]?.phones.join(" ") ?? ""}\n`,
    )
    .join("");
}

/**
 * Returns the row of a word.
 *
 * @param {import("./pronouncer.js").Answer} answer what the model says.
 * @param {{notation: string, language: string}} metadata the model's.
 * @param {boolean} isOpen whether everything is shown at once.
 */
export function drawAnswer(answer, metadata, isOpen) {
  const [best] = answer.choices;
  const unknown = new Set(answer.unknownCharacters).size;
  const flag = unknown === 1 ? "1 unknown character" : `${unknown} unknown characters`;
  const summary = build(
    "summary",
    {},
    build(
      "span",
      { class: "spelling" },
      build("bdi", { lang: metadata.language }, answer.word),
      ...(unknown > 0 ? [" ", build("span", { class: "note" }, flag)] : []),
    ),
    ...(best ? drawPhones(best, metadata) : [build("span", { class: "phones main" }, "–")]),
    best && build("span", { class: "probability" }, formatProbability(best.probability)),
  );
  const details = build("details", {}, summary);
  // Of a long list few rows are ever opened.
  details.addEventListener("toggle", () => details.open && fill(details, answer, metadata));
  if (isOpen) {
    fill(details, answer, metadata);
    details.open = true;
  }
  return build("li", {}, details);
}

function fill(details, answer, metadata) {
  if (details.dataset.filled) {
    return;
  }
  details.dataset.filled = "true";
  const unknown = [...new Set(answer.unknownCharacters)];
  if (unknown.length > 0) {
    const named = unknown.map(describeCharacter).join(", ");
    const note = `The model does not know ${named}: read as the base letter, or left out.`;
    details.append(build("p", { class: "note" }, note));
  }
  const [best] = answer.choices;
  if (!best) {
    return;
  }
  const rows = answer.choices.map((choice) =>
    build(
      "li",
      {},
      build(
        "div",
        { class: "choice" },
        drawBar(choice.probability),
        ...drawPhones(choice, metadata),
      ),
      drawAlignment(choice.alignment, best.alignment, metadata),
    ),
  );
  details.append(
    build("ol", { class: "choices", "aria-label": `Pronunciations of ${answer.word}` }, ...rows),
  );
}

function drawPhones({ phones }, { notation, language }) {
  const ipa = notation === "arpabet" ? toIpa(phones) : undefined;
  const written = phones.join(" ");
  const shown = build("span", { class: ipa ? "phones" : "phones main" }, written || "silent");
  return ipa
    ? [build("span", { class: "ipa", lang: `${language}-fonipa` }, `/${ipa}/`), shown]
    : [shown];
}

function drawBar(probability) {
  const bar = build("span", { class: "bar", "aria-hidden": "true" });
  bar.style.setProperty("--share", probability);
  return build("span", { class: "probability" }, bar, formatProbability(probability));
}

/** Draws every letter over its phones, and marks what differs from the best pronunciation. */
function drawAlignment(alignment, best, { notation }) {
  const cells = alignment.map(([letter, phones], i) => {
    const written = phones.join(" ");
    const differs = written !== best[i][1].join(" ");
    const symbols = notation === "arpabet" ? phones.map(phoneToIpa) : [];
    const ipa = symbols.length > 0 && !symbols.includes(undefined) ? symbols.join("") : undefined;
    const classes = [phones.length === 0 && "silent", differs && "differs"].filter(Boolean);
    return build(
      "li",
      classes.length > 0 ? { class: classes.join(" ") } : {},
      build("span", { class: "letter" }, /\s/.test(letter) ? "␣" : letter),
      build("span", { class: "visually-hidden" }, phones.length > 0 ? " gives " : " is silent"),
      build(
        "span",
        { class: "sound", ...(phones.length > 0 ? {} : { "aria-hidden": "true" }) },
        ipa ?? (written || "–"),
      ),
      ipa && build("span", { class: "code", "aria-hidden": "true" }, written),
    );
  });
  return build("ol", { class: "alignment", "aria-label": "Letters and their phones" }, ...cells);
}

function describeCharacter(character) {
  const code = character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
  return `${/[\p{L}\p{N}\p{P}\p{S}]/u.test(character) ? `“${character}” ` : ""}U+${code}`;
}
