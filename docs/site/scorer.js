/* How Sphinx orders the results of a search; pages for contributors come after those for users. */
var Scorer = {
  score: ([page, , , , score]) => (/^(docs\/decisions|benchmarks|CHANGELOG|CONTRIBUTING)/.test(page) ? score - 100 : score),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
