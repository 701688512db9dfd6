// Loaded before Azurite (node --require), so that it keeps up with the tens of thousands of blobs of the soak.
const path = require("node:path");
const main = path.dirname(process.argv[1]);

// Every ten minutes Azurite looks for content that no blob refers to, page by page through lists that it sorts anew
// each time, and answers nobody meanwhile: with the 50,000 blobs of ten minutes of the soak, for longer than twenty more.
// This puts that off beyond the soak's end. What is kept instead fits into memory.
for (const service of ["blob", "queue"]) {
  require(path.join(main, service, "utils", "constants.js")).DEFAULT_GC_INTERVAL_MS = 2 ** 31 - 1;
}

// To delete a blob it walks twice through all blobs of the account and then sorts every index anew: 230 ms of CPU with
// 16,000 blobs. Here the name, which is indexed and nearly unique, is looked up first, as Azurite does for all else, and
// one document leaves the indices without a sort: 2 ms.
const { Collection, Resultset } = require(require.resolve("lokijs", { paths: [main] }));
const { find } = Resultset.prototype;
Resultset.prototype.find = function (query, firstOnly) {
  return find.call(this, query?.name === undefined ? query : { name: query.name, ...query }, firstOnly);
};
const { removeBatchByPositions } = Collection.prototype;
Collection.prototype.removeBatchByPositions = function (positions) {
  if (positions.length !== 1) return removeBatchByPositions.call(this, positions);
  this.remove(this.data[positions[0]]);
};
