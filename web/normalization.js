// Spelling normalisation, the same as grapheme_to_phoneme/normalization.py, which says why each step is there.

/** Curly and modifier apostrophes that people write for U+0027. */
const APOSTROPHES = /[\u2018\u2019\u201b\u02bc\u02b9\u2032\uff07]/g;

/** Characters without a glyph of their own that copying from the web leaves in words. */
const INVISIBLE_CHARACTERS = /[\u00ad\u200b\u2060\ufeff]/g;

/** What Python calls white space; JavaScript's trim() has another idea of it. */
const WHITE_SPACE =
  "[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";
const OUTER_WHITE_SPACE = new RegExp(`^${WHITE_SPACE}+|${WHITE_SPACE}+$`, "g");

const CHANGES_OF_CASE = {
  lower: (text) => text.toLowerCase(),
  upper: (text) => text.toUpperCase(),
  keep: (text) => text,
};
const UNICODE_FORMS = ["NFC", "NFD", "NFKC", "NFKD"];

export class Normalization {
  /**
   * @param {{case: string, unicode_form: string, unify_apostrophes: boolean, drop_invisible: boolean}} values
   *   as a model's metadata has them.
   * @throws {RangeError} if one of them is unknown.
   */
  constructor({ case: letterCase, unicode_form, unify_apostrophes, drop_invisible, ...others }) {
    this.changeCase = CHANGES_OF_CASE[letterCase];
    if (!this.changeCase || ![...UNICODE_FORMS, "keep"].includes(unicode_form)) {
      throw new RangeError(`unknown normalisation ${letterCase}, ${unicode_form}`);
    }
    if (Object.keys(others).length > 0) {
      throw new RangeError(`unknown normalisation ${Object.keys(others)}`);
    }
    this.unicodeForm = unicode_form;
    this.unifiesApostrophes = unify_apostrophes;
    this.dropsInvisible = drop_invisible;
  }

  /** Returns a spelling without surrounding white space, in the form that the model learnt from. */
  apply(spelling) {
    const replaced = this.#replace(spelling.replace(OUTER_WHITE_SPACE, ""));
    const changed = this.changeCase(this.#compose(replaced));
    return this.#replace(this.#compose(changed)).replace(OUTER_WHITE_SPACE, "");
  }

  #replace(text) {
    const unified = this.unifiesApostrophes ? text.replace(APOSTROPHES, "'") : text;
    return this.dropsInvisible ? unified.replace(INVISIBLE_CHARACTERS, "") : unified;
  }

  #compose(text) {
    return this.unicodeForm === "keep" ? text : text.normalize(this.unicodeForm);
  }
}
