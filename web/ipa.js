// ARPAbet to the International Phonetic Alphabet, for reading: stress marks stand before the syllable, as in dictionaries.

/** Vowels by their symbol without stress. */
const VOWELS = {
  AA: "ɑ",
  AE: "æ",
  AH: "ʌ",
  AO: "ɔ",
  AW: "aʊ",
  AX: "ə",
  AXR: "ɚ",
  AY: "aɪ",
  EH: "ɛ",
  ER: "ɝ",
  EY: "eɪ",
  IH: "ɪ",
  IX: "ɨ",
  IY: "i",
  OW: "oʊ",
  OY: "ɔɪ",
  UH: "ʊ",
  UW: "u",
  UX: "ʉ",
};

/** Vowels that sound otherwise where they are marked as unstressed. */
const UNSTRESSED_VOWELS = { AH0: "ə", ER0: "ɚ" };

const CONSONANTS = {
  B: "b",
  CH: "tʃ",
  D: "d",
  DH: "ð",
  DX: "ɾ",
  F: "f",
  G: "ɡ",
  HH: "h",
  JH: "dʒ",
  K: "k",
  L: "l",
  M: "m",
  N: "n",
  NG: "ŋ",
  P: "p",
  Q: "ʔ",
  R: "ɹ",
  S: "s",
  SH: "ʃ",
  T: "t",
  TH: "θ",
  V: "v",
  W: "w",
  WH: "ʍ",
  Y: "j",
  Z: "z",
  ZH: "ʒ",
};

const STRESS_MARKS = { 1: "ˈ", 2: "ˌ" };

/** Groups of consonants that an English syllable can begin with; every single one but NG can too. */
const ONSETS = new Set(
  `P L,P R,P Y,B L,B R,B Y,T R,T W,D R,D W,K L,K R,K W,K Y,G L,G R,G W,F L,F R,F Y,V Y,M Y,TH R,TH W,SH R,HH Y,
  S P,S T,S K,S M,S N,S L,S W,S F,S P L,S P R,S P Y,S T R,S K L,S K R,S K W,S K Y`.split(/,\s*/),
);

/** Returns the IPA of one phone without its stress, or undefined where it is no phone of ARPAbet's. */
export function phoneToIpa(phone) {
  return UNSTRESSED_VOWELS[phone] ?? VOWELS[phone.replace(/[012]$/, "")] ?? CONSONANTS[phone];
}

const isVowel = (phone) => VOWELS[phone.replace(/[012]$/, "")] !== undefined;

const canBeginSyllable = (phones) =>
  phones.length === 1 ? phones[0] !== "NG" : ONSETS.has(phones.join(" "));

/**
 * Returns a word's IPA, or undefined where a phone is none of ARPAbet's.
 *
 * A word of one syllable gets no stress mark, and consonants belong to the syllable that they can begin.
 *
 * @param {string[]} phones the word's phones, with stress digits or without.
 */
export function toIpa(phones) {
  const symbols = phones.map(phoneToIpa);
  if (symbols.includes(undefined)) {
    return undefined;
  }
  const vowels = phones.flatMap((phone, i) => (isVowel(phone) ? [i] : []));
  if (vowels.length > 1) {
    vowels.forEach((vowel, order) => {
      const mark = STRESS_MARKS[phones[vowel].at(-1)];
      if (mark) {
        const onset = order === 0 ? 0 : findOnset(phones, vowels[order - 1] + 1, vowel);
        symbols[onset] = mark + symbols[onset];
      }
    });
  }
  return symbols.join("");
}

/** Returns where the syllable of a vowel begins: the longest possible beginning counts. */
function findOnset(phones, earliest, vowel) {
  let onset = vowel;
  while (onset > earliest && canBeginSyllable(phones.slice(onset - 1, vowel))) {
    onset--;
  }
  return onset;
}
