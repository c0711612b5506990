import { pattern } from '../lib/bytes.ts';
import { eventually } from '../lib/eventually.ts';
import { Opcode, OpenFlag } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { answerRequest, INTERRUPT, nextRequest } from '../lib/raw-server.ts';

/** What comes out of the queues of a connection: before what else, when, and into how much room. */

const PAGE = 4096;
/** Longer than any test. Seconds. */
const LONG = 100_000;
const EIO = -5;

guestTest('an INTERRUPT is read before requests that wait to be read (H10)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await using other = await guest.client();
  await using server = await guest.client();
  const device = await fuse.server.lendDevice(server);
  await fuse.server.kill('SIGKILL');
  const asking = client.errno.stat({ path: fuse.file('interrupted') });
  asking.catch(() => undefined);
  const asked = await nextRequest(server, device);
  const stopped = client.kill('SIGSTOP');
  const seen = await eventually(
    () => server.poll({ fd: device }),
    (events) => events === 'in|out',
  );
  t.is(seen, 'in|out', 'the INTERRUPT waits to be read');
  // Needs no lock that the first call may have.
  const later = other.errno.statfs({ path: fuse.path });
  later.catch(() => undefined);
  t.is(await fuse.untilWaiting(2), 2, 'and so does a request');
  const asks = /request_wait_answer|fuse_simple_request|fuse_statfs/;
  const where = await eventually(
    () => guest.where(other.pid),
    (text) => asks.test(text),
  );
  t.regex(where, asks, 'which is in the queue');

  const first = await nextRequest(server, device);
  t.is(first.opcode, Opcode.INTERRUPT, 'what is read first');
  t.is(first.unique, asked.unique | INTERRUPT, 'of which request');
  const second = await nextRequest(server, device);
  t.is(second.opcode, Opcode.STATFS, 'what is read next');
  for (const { unique } of [second, asked]) {
    t.is(await answerRequest(server, device, { unique, error: EIO }), 'ok');
  }
  await stopped;
  await client.kill('SIGCONT');
  t.deepEqual(await Promise.all([asking, later]), ['EIO', 'EIO']);
});

/** Callers that wait for max_background, of which a higher one lets the first go on. */
const CALLERS = 3;

guestTest(
  'where max_background was raised, each request that ends lets one more caller go on that waited for it',
  async (t, guest) => {
    const init = { maxBackground: 1, addFlags: ['ASYNC_DIO'] } as const;
    await using fuse = await guest.mountFuse({ passthrough: 'off', init });
    await using client = await guest.client();
    await using other = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: pattern((1 + CALLERS) * PAGE) });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_DIRECT' });
    const hold = await fuse.hold('READ');
    const read = (nth: number): Promise<string> => {
      const operations = [{ op: 'pread', fd, count: PAGE, offset: nth * PAGE } as const];
      return client.aio({ operations }).then(
        ([done]) => String(done?.result),
        (error: unknown) => String(error),
      );
    };
    const reading = [read(0)];
    const held = [await hold.arrived()];
    for (let nth = 1; nth <= CALLERS; nth++) reading.push(read(nth));
    t.is(await fuse.untilWaiting(1 + CALLERS), 1 + CALLERS, 'one request at the server, and callers');
    const path = `/sys/fs/fuse/connections/${fuse.connection}/max_background`;
    await other.writeFile({ path, data: '10', flags: 'O_WRONLY' });
    for (let nth = 1; nth <= CALLERS; nth++) {
      const next = await hold.arrived().catch(() => undefined);
      const why = nth === 1 ? 'by the higher limit' : `by the end of ${nth - 1} of the requests`;
      t.not(next, undefined, `caller ${nth} of ${CALLERS} goes on ${why}`);
      const ends = held.shift();
      if (next === undefined || ends === undefined) break;
      held.push(next);
      await hold.release(ends);
    }
    await hold.stop();
    for (const each of held) await hold.release(each);
    const all = await Promise.all(reading);
    t.deepEqual(
      all,
      all.map(() => String(PAGE)),
      'what each caller has read',
    );
    await client.close({ fd });
  },
);

/** `fuse_in_header` and `fuse_write_in`, before the data of a WRITE. Bytes. */
const BEFORE_DATA = 40 + 40;
const MAX_WRITE = 2 * PAGE;

guestTest('a request is read whole that just fits into the room for it', async (t, guest) => {
  const init = { maxWrite: MAX_WRITE } as const;
  await using fuse = await guest.mountFuse({ passthrough: 'off', init, entryValidS: LONG, attrValidS: LONG });
  await fuse.answerOpen('OPEN', { openFlags: OpenFlag.DIRECT_IO });
  // Once told, no write asks for capabilities of the file any more.
  await fuse.fail('GETXATTR', 'ENOSYS');
  await using client = await guest.client();
  await using server = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: pattern(MAX_WRITE) });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  await client.pwrite({ fd, data: 'first', offset: 0 });
  await client.fstat({ fd });
  const device = await fuse.server.lendDevice(server);
  await fuse.server.kill('SIGKILL');
  const data = pattern(MAX_WRITE, 7);
  const writing = client.errno.pwrite({ fd, data, offset: 0 });
  writing.catch(() => undefined);
  await eventually(
    () => server.poll({ fd: device }),
    (events) => events === 'in|out',
  );
  const room = BEFORE_DATA + MAX_WRITE;
  const raw = await server.read({ fd: device, count: room }).catch((error: unknown) => String(error));
  if (typeof raw === 'string') t.fail(`a WRITE of max_write, with room for just that: ${raw}`);
  else {
    t.is(raw.length, room, 'how much is read');
    t.deepEqual(raw.subarray(BEFORE_DATA), data, 'what the WRITE brings');
    const unique = new DataView(raw.buffer, raw.byteOffset).getBigUint64(8, true);
    const body = new Uint8Array(Uint32Array.of(MAX_WRITE, 0).buffer);
    t.is(await answerRequest(server, device, { unique, body }), 'ok');
  }
  t.is(await writing, 'ok', 'what the writer is told');
  await fuse.abort();
});
