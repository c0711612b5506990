import { concat, firstDifference, pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { OUT_HEADER_BYTES, outHeader } from '../lib/raw-server.ts';
import { openWithId } from '../lib/registration.ts';

const PAGE = 4096;
const PAGES = 4;
const SHARED = { length: PAGES * PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' } as const;

/** Answers READ in the server's stead with pages of the backing file itself, which the kernel may keep. */
class Splicer {
  readonly #client: Client;
  readonly #fuse: FuseMount;
  readonly #device: number;
  readonly #flags: string;

  private constructor(
    fuse: FuseMount,
    client: Client,
    how: { readonly device: number; readonly flags: string },
  ) {
    this.#fuse = fuse;
    this.#client = client;
    this.#device = how.device;
    this.#flags = how.flags;
  }

  static async of(fuse: FuseMount, client: Client, flags: string): Promise<Splicer> {
    const device = await fuse.server.lendDevice(client);
    return new Splicer(fuse, client, { device, flags });
  }

  /** All of `f`, by a read that finds nothing in the page cache. */
  async read(reader: Client, fd: number): Promise<Uint8Array> {
    const client = this.#client;
    const hold = await this.#fuse.hold('READ');
    const reading = reader.pread({ fd, count: PAGES * PAGE, offset: 0 });
    reading.catch(() => undefined);
    const { unique, args } = await hold.arrived();
    await hold.stop();
    const file = await client.open({ path: this.#fuse.backing('f'), flags: 'O_RDONLY' });
    const [fdIn, fdOut] = await client.pipe({});
    const length = PAGES * PAGE;
    await client.write({ fd: fdOut, data: outHeader({ unique: BigInt(unique), bodyBytes: length }) });
    const offIn = Number(args['offset']);
    const moved = await client.splice({ fdIn: file, offIn, fdOut, length, flags: this.#flags });
    if (moved !== length) throw new Error(`splice took ${moved} bytes of ${length}`);
    const answer = { fdIn, fdOut: this.#device, length: OUT_HEADER_BYTES + length, flags: this.#flags };
    if ((await client.splice(answer)) !== OUT_HEADER_BYTES + length)
      throw new Error('the answer was not taken whole');
    for (const each of [file, fdIn, fdOut]) await client.close({ fd: each });
    return reading;
  }
}

async function openPassthrough(guest: TestGuest, client: Client, fuse: FuseMount): Promise<number> {
  const id = await fuse.server.registerBacking({ path: fuse.backing('f'), flags: 'O_RDWR' });
  return openWithId(guest, client, { fuse, id });
}

for (const flags of ['', 'SPLICE_F_MOVE']) {
  const how = flags === '' ? 'spliced' : 'spliced and given away';
  guestTest(
    `pages of the backing file ${how} in answers to READ are no longer the backing file’s (D14, K06, K46)`,
    async (t, guest) => {
      await using fuse = await guest.mountFuse({ passthrough: 'off', attrValidS: 3600 });
      await using client = await guest.client();
      await using helper = await guest.client();
      const splicer = await Splicer.of(fuse, helper, flags);
      const old = pattern(PAGES * PAGE);
      const path = fuse.backing('f');
      await client.writeFile({ path, data: old });
      // Only clean pages are given away.
      const native = await client.open({ path, flags: 'O_RDWR' });
      await client.fsync({ fd: native });

      const cached = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
      t.is(firstDifference(await splicer.read(client, cached), old), undefined, 'the answer');
      await client.pwrite({ fd: native, data: 'below', offset: 0 });
      const again = await client.pread({ fd: cached, count: PAGES * PAGE, offset: 0 });
      t.is(firstDifference(again, old), undefined, 'a write below does not show in the cache of FUSE');
      const map = await client.mmap({ fd: cached, ...SHARED });
      await client.mwrite({ map, offset: PAGE, data: 'above' });
      const below = await client.pread({ fd: native, count: 5, offset: PAGE });
      t.is(
        firstDifference(below, old.subarray(PAGE, PAGE + 5)),
        undefined,
        'nor a store in that cache below',
      );
      await client.munmap({ map });
      await client.close({ fd: cached });
      t.is(text(await client.pread({ fd: native, count: 5, offset: PAGE })), 'above', 'until it is written');

      const fd = await openPassthrough(guest, client, fuse);
      const after = await fuse.position();
      const expected = Uint8Array.from(old);
      expected.set(Buffer.from('above'), PAGE);
      const page = await client.pread({ fd: native, count: PAGES * PAGE, offset: 0 });
      t.is(firstDifference(page.subarray(PAGE), expected.subarray(PAGE)), undefined, 'the backing file');
      const through = await client.pread({ fd, count: PAGES * PAGE, offset: 0 });
      t.is(firstDifference(through, page), undefined, 'in passthrough mode');
      await client.pwrite({ fd, data: 'passed', offset: 2 * PAGE });
      t.deepEqual(await fuse.opcodes({ opcode: ['READ', 'WRITE'], after }), [], 'past the server');
      await client.close({ fd });
      const anew = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
      page.set(Buffer.from('passed'), 2 * PAGE);
      await client.fsync({ fd: native });
      t.is(firstDifference(await splicer.read(client, anew), page), undefined, 'spliced once more');
      for (const each of [anew, native]) await client.close({ fd: each });
    },
  );
}

guestTest(
  'an answer from pages of a pipe that are not full is read byte for byte, given away or not',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    await using helper = await guest.client();
    const device = await fuse.server.lendDevice(helper);
    const data = pattern(PAGES * PAGE, 5);
    await client.writeFile({ path: fuse.backing('f'), data: new Uint8Array(data.length) });
    for (const flags of ['', 'SPLICE_F_MOVE']) {
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
      const hold = await fuse.hold('READ');
      const reading = client.pread({ fd, count: data.length, offset: 0 });
      reading.catch(() => undefined);
      const { unique, args } = await hold.arrived();
      await hold.stop();
      t.is(args['size'], data.length, 'all in one request');
      const [fdIn, fdOut] = await helper.pipe({});
      await helper.write({ fd: fdOut, data: outHeader({ unique: BigInt(unique), bodyBytes: data.length }) });
      // Each too long to be put behind the one before: every write has a page of its own, and none fills it.
      for (let at = 0; at < data.length; at += PAGE - 6) {
        await helper.write({ fd: fdOut, data: data.subarray(at, at + PAGE - 6) });
      }
      const length = OUT_HEADER_BYTES + data.length;
      t.is(
        await helper.splice({ fdIn, fdOut: device, length, flags }),
        length,
        `taken whole, flags ${flags}`,
      );
      t.is(firstDifference(await reading, data), undefined, `what is read, flags ${flags}`);
      for (const each of [fdIn, fdOut]) await helper.close({ fd: each });
      await client.close({ fd });
    }
  },
);

guestTest(
  'an answer from a file whose pages are not taken from their beginning is read byte for byte, given away or not',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    await using helper = await guest.client();
    const device = await fuse.server.lendDevice(helper);
    const source = pattern(PAGES * PAGE, 7);
    const [offIn, length] = [100, (PAGES - 1) * PAGE];
    await client.writeFile({ path: fuse.backing('f'), data: new Uint8Array(length) });
    await client.writeFile({ path: fuse.backing('source'), data: source });
    for (const flags of ['', 'SPLICE_F_MOVE']) {
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
      const file = await helper.open({ path: fuse.backing('source'), flags: 'O_RDONLY' });
      const hold = await fuse.hold('READ');
      const reading = client.pread({ fd, count: length, offset: 0 });
      reading.catch(() => undefined);
      const { unique, args } = await hold.arrived();
      await hold.stop();
      t.is(args['size'], length, 'all in one request');
      const [fdIn, fdOut] = await helper.pipe({});
      await helper.write({ fd: fdOut, data: outHeader({ unique: BigInt(unique), bodyBytes: length }) });
      // Pages of the file itself, the first of them without its beginning.
      t.is(await helper.splice({ fdIn: file, offIn, fdOut, length }), length, 'moved to the pipe');
      const whole = OUT_HEADER_BYTES + length;
      t.is(
        await helper.splice({ fdIn, fdOut: device, length: whole, flags }),
        whole,
        `taken whole, flags ${flags}`,
      );
      const expected = source.subarray(offIn, offIn + length);
      t.is(firstDifference(await reading, expected), undefined, `what is read, flags ${flags}`);
      for (const each of [file, fdIn, fdOut]) await helper.close({ fd: each });
      await client.close({ fd });
    }
  },
);

guestTest(
  'answers are spliced one by one out of a pipe that has more, and none out of a pipe that has less',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await using helper = await guest.client();
    const fdOut = await fuse.server.lendDevice(helper);
    const hold = await fuse.hold('LOOKUP');
    const ask = async (name: string): Promise<{ asking: Promise<string>; answer: Uint8Array }> => {
      const asking = client.errno.stat({ path: fuse.file(name) });
      const { unique } = await hold.arrived();
      // EACCES, EPERM …: each name has its own.
      const error = { first: -13, second: -1, third: -5 }[name] ?? 0;
      return { asking, answer: outHeader({ unique: BigInt(unique), error, bodyBytes: 0 }) };
    };
    const [first, second, third] = [await ask('first'), await ask('second'), await ask('third')];
    const [fdIn, end] = await helper.pipe({});
    const take = { fdIn, fdOut, length: OUT_HEADER_BYTES };
    await helper.write({ fd: end, data: concat(first.answer, second.answer) });
    t.is(await helper.splice(take), OUT_HEADER_BYTES, 'the first half of what one write left in the pipe');
    t.is(await first.asking, 'EACCES');
    t.is(await helper.splice(take), OUT_HEADER_BYTES, 'the second half');
    t.is(await second.asking, 'EPERM');

    await helper.write({ fd: end, data: third.answer });
    t.is(
      await helper.errno.splice({ ...take, length: OUT_HEADER_BYTES + 1 }),
      'EINVAL',
      'more than there is',
    );
    t.is(await helper.splice(take), OUT_HEADER_BYTES, 'nothing was taken out of the pipe');
    t.is(await third.asking, 'EIO');
  },
);

for (const shared of [false, true]) {
  const whose = shared ? 'that another pipe has as well' : 'of the pipe alone';
  guestTest(
    `whole pages ${whose} and a short last one are given away as an answer to READ`,
    async (t, guest) => {
      await using fuse = await guest.mountFuse({ passthrough: 'off' });
      await using client = await guest.client();
      await using helper = await guest.client();
      const fdOut = await fuse.server.lendDevice(helper);
      const data = pattern(2 * PAGE + 100, 11);
      await client.writeFile({ path: fuse.backing('f'), data: new Uint8Array(data.length) });
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
      const hold = await fuse.hold('READ');
      const reading = client.pread({ fd, count: 3 * PAGE, offset: 0 });
      reading.catch(() => undefined);
      const { unique } = await hold.arrived();
      await hold.stop();
      const [fdIn, into] = await helper.pipe({});
      const [copy, intoCopy] = await helper.pipe({});
      const header = outHeader({ unique: BigInt(unique), bodyBytes: data.length });
      await helper.write({ fd: into, data: header });
      // What fills a page gets one of its own.
      for (let at = 0; at < data.length; at += PAGE)
        await helper.write({ fd: into, data: data.subarray(at, at + PAGE) });
      const length = header.length + data.length;
      if (shared) t.is(await helper.tee({ fdIn, fdOut: intoCopy, length }), length);
      t.is(await helper.splice({ fdIn, fdOut, length, flags: 'SPLICE_F_MOVE' }), length, 'taken whole');
      t.is(firstDifference(await reading, data), undefined, 'what is read');
      const map = await client.mmap({
        fd,
        length: 3 * PAGE,
        prot: 'PROT_READ|PROT_WRITE',
        flags: 'MAP_SHARED',
      });
      const end = await client.mread({ map, offset: data.length, length: PAGE - 100 });
      t.is(firstDifference(end, new Uint8Array(PAGE - 100)), undefined, 'zeros behind the end of the file');
      await client.mwrite({ map, offset: 0, data: 'above' });
      if (shared) {
        const other = await helper.read({ fd: copy, count: length });
        t.is(firstDifference(other, concat(header, data)), undefined, 'the other pipe has what it had');
      }
      await client.munmap({ map });
      for (const each of [fdIn, into, copy, intoCopy, fdOut]) await helper.close({ fd: each });
      await client.close({ fd });
    },
  );
}
