import { firstDifference, pattern } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { needsMappings } from '../lib/registration.ts';
import { Witness } from '../lib/witness.ts';

const PAGE = 4096;
/** `FUSE_WRITE_CACHE`: the pages are those of a mapping or of the write-back cache. */
const WRITE_CACHE = 1 << 0;

guestTest(
  'a mapping faults its pages in and writes them back through the backing file (A13, A14)',
  async (t, guest) => {
    needsMappings(guest);
    await using witness = await Witness.mount(guest, { io: 'cached', lowerInit: { maxReadahead: 0 } });
    await using client = await guest.client();
    const data = pattern(16 * PAGE);
    await client.writeFile({ path: witness.upper.backing('f'), data });
    const fd = await client.open({ path: witness.upper.file('f'), flags: 'O_RDWR' });
    const map = await client.mmap({
      fd,
      length: data.length,
      prot: 'PROT_READ|PROT_WRITE',
      flags: 'MAP_SHARED',
    });
    t.deepEqual(await witness.sent(['READ', 'WRITE']), [], 'mapping alone reads nothing');

    const at = 5 * PAGE + 10;
    const seen = await client.mread({ map, offset: at, length: 20 });
    t.is(firstDifference(seen, data.subarray(at, at + 20)), undefined);
    const reads = await witness.sent('READ');
    const covers = reads.some(({ args }) => {
      const start = Number(args['offset']);
      return start <= 5 * PAGE && start + Number(args['size']) >= 6 * PAGE;
    });
    t.true(covers, 'a fault reads the page');

    const after = await witness.lower.position();
    const stored = pattern(20, 7);
    await client.mwrite({ map, offset: at, data: stored });
    await client.msync({ map, offset: 5 * PAGE, length: PAGE, flags: 'MS_SYNC' });
    const sent = await witness.sent(['WRITE', 'FSYNC'], after);
    const writes = sent.filter(({ opcode }) => opcode === 'WRITE');
    t.true(writes.length > 0, 'msync sends the page');
    // How often the flusher has sent it before is the kernel's business.
    for (const { args } of writes) {
      t.deepEqual([args['offset'], args['size']], [5 * PAGE, PAGE], 'the page');
      t.is(Number(args['write_flags']) & WRITE_CACHE, WRITE_CACHE);
    }
    const last = sent.slice(-2).map(({ opcode }) => opcode);
    t.deepEqual(last, ['WRITE', 'FSYNC'], 'msync asks for FSYNC when the page is written');
    data.set(stored, at);
    const back = await client.readFile({ path: witness.upper.backing('f') });
    t.is(firstDifference(back, data), undefined, 'after msync');
    await client.munmap({ map });
    await client.close({ fd });
    t.deepEqual(await witness.upper.dataRequests(), []);
    t.deepEqual(await witness.upper.opcodes('FSYNC'), [], 'msync is not the upper server’s business');
  },
);

guestTest(
  'a mapping keeps the backing file open after close, and its pages are written before it goes (A14, C6)',
  async (t, guest) => {
    needsMappings(guest);
    await using witness = await Witness.mount(guest, { io: 'cached' });
    await using client = await guest.client();
    await client.writeFile({ path: witness.upper.backing('f'), data: pattern(PAGE) });
    const fd = await client.open({ path: witness.upper.file('f'), flags: 'O_RDWR' });
    const map = await client.mmap({ fd, length: PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' });
    await client.close({ fd });
    await witness.upper.waitFor('RELEASE');
    const [open] = await witness.backingOpens();
    const fh = open?.reply?.open?.fh;
    t.false(
      (await witness.sent('RELEASE')).some(({ args }) => args['fh'] === fh),
      'while it is mapped',
    );

    await client.mwrite({ map, offset: 100, data: 'stored' });
    await client.munmap({ map });
    const release = await witness.lower.waitFor({ opcode: 'RELEASE', after: await lastOther(witness, fh) });
    t.is(release.args['fh'], fh, 'after munmap');
    const back = await client.readFile({ path: witness.lower.file('f') });
    t.is(Buffer.from(back).toString('latin1', 100, 106), 'stored');
    t.deepEqual(await witness.upper.dataRequests(), []);
  },
);

/** Position of the last RELEASE that is not of that handle: the server's own open of the file. */
async function lastOther(witness: Witness, fh: number | undefined): Promise<number> {
  const others = (await witness.lower.requests('RELEASE')).filter(({ args }) => args['fh'] !== fh);
  return others.at(-1)?.seq ?? 0;
}

guestTest(
  'a private mapping reads through the backing file and writes nothing to it (A15)',
  async (t, guest) => {
    needsMappings(guest);
    await using witness = await Witness.mount(guest, { io: 'cached' });
    await using client = await guest.client();
    const data = pattern(2 * PAGE);
    await client.writeFile({ path: witness.upper.backing('f'), data });
    const fd = await client.open({ path: witness.upper.file('f'), flags: 'O_RDWR' });
    const map = await client.mmap({
      fd,
      length: 2 * PAGE,
      prot: 'PROT_READ|PROT_WRITE',
      flags: 'MAP_PRIVATE',
    });
    await client.mwrite({ map, offset: 10, data: 'private' });
    await client.msync({ map, flags: 'MS_SYNC' });
    await client.munmap({ map });
    await client.close({ fd });
    t.true((await witness.sent('READ')).length > 0);
    t.deepEqual(await witness.sent('WRITE'), []);
    t.is(firstDifference(await client.readFile({ path: witness.upper.backing('f') }), data), undefined);
  },
);

guestTest(
  'a splice and a sendfile read the backing file through its page cache (A21, A23)',
  async (t, guest) => {
    await using witness = await Witness.mount(guest, { io: 'cached' });
    await using client = await guest.client();
    const data = pattern(5 * PAGE);
    await client.writeFile({ path: witness.upper.backing('f'), data });
    const fd = await client.open({ path: witness.upper.file('f'), flags: 'O_RDONLY' });
    const [fdIn, fdOut] = await client.pipe({});
    t.is(await client.splice({ fdIn: fd, offIn: 100, fdOut, length: 2000 }), 2000);
    t.is(await client.sendfile({ fdOut, fdIn: fd, offset: 2100, count: 3000 }), 3000);
    const out = await client.read({ fd: fdIn, count: 5000 });
    t.is(firstDifference(out, data.subarray(100, 5100)), undefined);
    t.true((await witness.sent('READ')).length > 0);
    await client.close({ fd });
    t.deepEqual(await witness.upper.dataRequests(), []);
  },
);
