import { firstDifference, pattern, text } from '../lib/bytes.ts';
import { eventually } from '../lib/eventually.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { mountWithModes, openAs, register } from '../lib/open-modes.ts';
import { whereItWaits } from '../lib/where-it-waits.ts';

const PAGE = 4096;

guestTest(
  'splice on a file opened for direct I/O and passthrough goes to the server (D8)',
  async (t, guest) => {
    await using fuse = await mountWithModes(guest);
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: '0123456789' });
    const id = await register(fuse, 'f');
    const fd = await openAs(client, fuse, { name: 'f', mode: 'passthrough-direct', id });
    const [end, into] = await client.pipe({});

    await client.write({ fd: into, data: 'abc' });
    t.is(await client.splice({ fdIn: end, fdOut: fd, offOut: 2, length: 3 }), 3);
    t.deepEqual(
      await fuse.opcodes({ opcode: ['READ', 'WRITE'] }),
      ['WRITE'],
      'splice to the file is a WRITE',
    );
    t.is(text(await client.readFile({ path: fuse.backing('f') })), '01abc56789');
    for (const each of [end, into, fd]) await client.close({ fd: each });
  },
);

guestTest(
  'a direct file may be mapped private, and shared only where the server allows it (D7)',
  async (t, guest) => {
    for (const allowed of [false, true]) {
      const init = allowed ? ({ addFlags: ['DIRECT_IO_ALLOW_MMAP'] } as const) : {};
      await using fuse = await mountWithModes(guest, { init });
      await using client = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: pattern(PAGE) });
      for (const flags of ['O_RDWR', 'O_RDONLY']) {
        const fd = await openAs(client, fuse, { name: 'f', mode: 'direct', flags });
        const map = { fd, length: PAGE, prot: 'PROT_READ' };
        const how = `${flags}, shared ones ${allowed ? 'allowed' : 'not allowed'}`;
        t.is(await client.errno.mmap({ ...map, flags: 'MAP_PRIVATE' }), 'ok', `private, ${how}`);
        const shared = await client.errno.mmap({ ...map, flags: 'MAP_SHARED' });
        t.is(shared, allowed ? 'ok' : 'ENODEV', `shared, ${how}`);
        await client.close({ fd });
      }
    }
  },
);

/** System calls in which a client waits for what it has submitted: io_getevents and io_pgetevents. */
const WAITS_FOR_EVENTS = /syscall (208|333)\b/;

guestTest('a direct write is submitted without waiting for the server to answer it', async (t, guest) => {
  await using fuse = await mountWithModes(guest, { init: { addFlags: ['ASYNC_DIO'] } });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: pattern(2 * PAGE) });
  const fd = await openAs(client, fuse, { name: 'f', mode: 'direct', flags: 'O_RDWR|O_DIRECT' });
  // The second one ends where the file does: that makes it no longer.
  for (const offset of [0, PAGE]) {
    const hold = await fuse.hold('WRITE');
    const data = new Uint8Array(PAGE).fill(7);
    const writing = client.aio({ operations: [{ op: 'pwrite', fd, data, offset }] });
    writing.catch(() => undefined);
    const request = await hold.arrived();
    const where = await eventually(
      () => guest.where(client.pid),
      (text) => WAITS_FOR_EVENTS.test(text),
    );
    t.regex(where, WAITS_FOR_EVENTS, `one to ${offset} is in the kernel’s hands`);
    await hold.stop();
    await hold.release(request);
    t.deepEqual(
      (await writing).map(({ result }) => result),
      [PAGE],
    );
  }
  await client.close({ fd });
  const written = await client.readFile({ path: fuse.backing('f') });
  t.is(firstDifference(written, new Uint8Array(2 * PAGE).fill(7)), undefined);
});

guestTest(
  'a direct read across the end asks for what is left in whole requests, and for no more',
  async (t, guest) => {
    const init = { maxPages: 1, addFlags: ['MAX_PAGES', 'ASYNC_DIO'] } as const;
    await using fuse = await guest.mountFuse({ passthrough: 'off', init });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: pattern(5 * PAGE) });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY|O_DIRECT' });
    const after = await fuse.position();
    const seen = await client.pread({ fd, count: 16 * PAGE, offset: 3 * PAGE });
    t.is(firstDifference(seen, pattern(5 * PAGE).subarray(3 * PAGE)), undefined);
    const reads = await fuse.requests({ opcode: 'READ', after });
    const pages = reads.map(({ args }) => Number(args['offset']) / PAGE).sort();
    t.deepEqual(pages, [3, 4], 'the pages that were asked for');
    await client.close({ fd });
  },
);

guestTest('a direct read at the end of a file or behind it asks the server for nothing', async (t, guest) => {
  await using client = await guest.client();
  for (const addFlags of [[], ['ASYNC_DIO']] as const) {
    await using fuse = await guest.mountFuse({ passthrough: 'off', init: { addFlags } });
    await client.writeFile({ path: fuse.backing('f'), data: pattern(2 * PAGE) });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY|O_DIRECT' });
    for (const [offset, length] of [
      [PAGE, PAGE],
      [2 * PAGE, 0],
      [3 * PAGE, 0],
    ] as const) {
      const after = await fuse.position();
      const what = `at ${offset} of ${2 * PAGE} bytes, ${addFlags.join() || 'no ASYNC_DIO'}`;
      t.is((await client.pread({ fd, offset, count: PAGE })).length, length, what);
      const asked = (await fuse.requests({ opcode: 'READ', after })).length;
      t.is(asked, length > 0 ? 1 : 0, `${what}: how many READs`);
    }
    await client.close({ fd });
  }
});

guestTest(
  'of an asynchronous read of a direct file that was opened without O_DIRECT one request is sent after the other',
  async (t, guest) => {
    const init = { addFlags: ['ASYNC_DIO'] } as const;
    for (const [flags, atOnce] of [
      ['O_RDONLY', false],
      ['O_RDONLY|O_DIRECT', true],
    ] as const) {
      await using fuse = await guest.mountFuse({ passthrough: 'off', init, maxRead: PAGE });
      await using client = await guest.client();
      await using other = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: pattern(2 * PAGE) });
      await fuse.answerOpen('OPEN', { openFlags: OpenFlag.DIRECT_IO });
      const fd = await client.open({ path: fuse.file('f'), flags });
      const hold = await fuse.hold('READ');
      const reading = client.aio({ operations: [{ op: 'pread', fd, count: 2 * PAGE, offset: 0 }] });
      reading.catch(() => undefined);
      const held = [await hold.arrived()];
      // Who submits does not come back from a read that is not asynchronous to the server.
      const at = atOnce ? WAITS_FOR_EVENTS : /request_wait_answer/;
      t.regex(await whereItWaits(guest, client, { call: reading, at }), at, `${flags}: who has submitted it`);
      if (atOnce) held.push(await hold.arrived());
      // A request that is sent now comes after one that would have been sent at once.
      await other.stat({ path: fuse.path });
      t.is((await fuse.requests('READ')).length, held.length, `${flags}: requests at once`);
      await hold.stop();
      for (const request of held) await hold.release(request);
      const [done] = await reading;
      t.is(done?.result, 2 * PAGE, flags);
      t.is(firstDifference(done?.data ?? new Uint8Array(), pattern(2 * PAGE)), undefined, flags);
      await client.close({ fd });
    }
  },
);
