import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { mountWritebackCache } from '../lib/writeback-cache.ts';

/** What fusectl lets be seen and changed of a connection. */

const PAGE = 4096;
const WITHOUT_SYS_ADMIN = ['setpriv', '--bounding-set', '-sys_admin'];
/** Files that have a limit, and the parameter of the module that bounds it for who is no administrator. */
const LIMITS = {
  max_background: 'max_user_bgreq',
  congestion_threshold: 'max_user_congthresh',
} as const;

function control(fuse: FuseMount, name: string): string {
  return `/sys/fs/fuse/connections/${fuse.connection}/${name}`;
}

async function valueOf(client: Client, path: string): Promise<string> {
  return text(await client.readFile({ path })).trim();
}

function change(client: Client, path: string, data: string): Promise<string> {
  return client.errno.writeFile({ path, data, flags: 'O_WRONLY' });
}

guestTest('limits of a connection are those that were written, if they may be', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await using limited = await guest.client({ launcher: WITHOUT_SYS_ADMIN });
  for (const [name, parameter] of Object.entries(LIMITS)) {
    const path = control(fuse, name);
    for (const [written, read] of [
      ['5', '5'],
      ['0x10', '16'],
      ['65535', '65535'],
    ] as const) {
      t.is(await change(client, path, written), 'ok', `${name} ${written}`);
      t.is(await valueOf(client, path), read, `${name} after ${written}`);
    }
    for (const wrong of ['65536', '-1', 'many']) t.not(await change(client, path, wrong), 'ok', wrong);
    t.is(await valueOf(client, path), '65535', `${name} after what cannot be`);
    const bound = Number(await valueOf(client, `/sys/module/fuse/parameters/${parameter}`));
    t.is(await change(limited, path, String(bound + 1)), 'EINVAL', `${name} beyond ${parameter}`);
    t.is(await change(limited, path, String(bound)), 'ok', `${name} up to ${parameter}`);
    t.is(await valueOf(client, path), String(bound), name);
  }
});

guestTest('files of a connection are for who has mounted it', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  const modes: Record<string, string> = {};
  for (const name of ['.', 'abort', 'congestion_threshold', 'max_background', 'waiting']) {
    const { mode, uid } = await client.stat({ path: control(fuse, name) });
    modes[name] = `${(mode & 0o7777).toString(8)} of ${uid}`;
  }
  t.deepEqual(modes, {
    '.': '500 of 0',
    abort: '200 of 0',
    congestion_threshold: '600 of 0',
    max_background: '600 of 0',
    waiting: '400 of 0',
  });
});

/** Asynchronous reads of a page each, of which two are at the server and kept there, and one waits for max_background. */
async function readsBeyondMax(fuse: FuseMount, client: Client, count: number) {
  await client.writeFile({ path: fuse.backing('f'), data: new Uint8Array(count * PAGE) });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_DIRECT' });
  const hold = await fuse.hold('READ');
  const reading = client.aio({
    operations: Array.from({ length: count }, (_none, at) => ({
      op: 'pread' as const,
      fd,
      count: PAGE,
      offset: at * PAGE,
    })),
  });
  reading.catch(() => undefined);
  const held = [await hold.arrived(), await hold.arrived()];
  // Those two, and the one whose caller is kept from sending more.
  return { fd, hold, held, reading, waiting: await fuse.untilWaiting(3) };
}

/** Of which one is served, and more wait than what ends with it lets go. */
const READERS = 4;

const TWO_AT_ONCE = {
  passthrough: 'off',
  init: { maxBackground: 2, addFlags: ['ASYNC_DIO'] },
} as const;

guestTest('who waits for max_background goes on when it is raised', async (t, guest) => {
  await using fuse = await guest.mountFuse(TWO_AT_ONCE);
  await using client = await guest.client();
  await using other = await guest.client();
  const { fd, hold, held, reading, waiting } = await readsBeyondMax(fuse, client, 6);
  t.is(waiting, 3);
  t.is(await change(other, control(fuse, 'max_background'), '6'), 'ok');
  for (let at = 2; at < 6; at++) {
    const next = await hold.arrived().catch(() => undefined);
    t.is(next?.args['offset'], at * PAGE, `request ${at} is sent while none is answered`);
    if (next !== undefined) held.push(next);
  }
  for (const each of held) await hold.release(each);
  const results = await reading;
  t.deepEqual(
    results.map(({ result }) => result),
    [PAGE, PAGE, PAGE, PAGE, PAGE, PAGE],
  );
  await client.close({ fd });
});

guestTest('what waits to be sent because of max_background is sent when it is raised', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  const after = await fuse.position();
  t.is(await change(client, control(fuse, 'max_background'), '0'), 'ok');
  await client.close({ fd });
  await client.statfs({ path: fuse.path });
  t.deepEqual(await fuse.opcodes({ opcode: 'RELEASE', after }), [], 'a RELEASE waits');
  t.is(await change(client, control(fuse, 'max_background'), '12'), 'ok');
  await client.statfs({ path: fuse.path });
  const sent = await fuse.opcodes({ opcode: 'RELEASE', after });
  // The next one takes it along.
  await client.close({ fd: await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' }) });
  t.deepEqual(sent, ['RELEASE'], 'and is at the server before what is asked later');
});

guestTest(
  'fsync writes what waits in the cache, however many requests are under way already',
  async (t, guest) => {
    const init = { maxBackground: 10, congestionThreshold: 1 } as const;
    await using fuse = await mountWritebackCache(guest, { init });
    await using client = await guest.client();
    const [busy, fd] = [
      await client.open({ path: fuse.file('busy'), flags: 'O_RDWR|O_CREAT' }),
      await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_CREAT' }),
    ];
    const hold = await fuse.hold({ opcode: 'WRITE', path: '/busy' });
    await client.pwrite({ fd: busy, data: 'busy', offset: 0 });
    // Begins without waiting for the end.
    await client.sync_file_range({ fd: busy, offset: 0, length: 0, flags: 'SYNC_FILE_RANGE_WRITE' });
    const held = await hold.arrived();
    await client.pwrite({ fd, data: 'contents', offset: 0 });
    t.is(await client.errno.fsync({ fd }), 'ok');
    t.is(text(await client.readFile({ path: fuse.backing('f') })), 'contents', 'it is at the server');
    await hold.stop();
    await hold.release(held);
    for (const each of [busy, fd]) await client.close({ fd: each });
  },
);

guestTest(
  'who waits for max_background is told when the connection is aborted, as is whose request was sent',
  async (t, guest) => {
    await using fuse = await guest.mountFuse(TWO_AT_ONCE);
    await using client = await guest.client();
    const { fd, reading, waiting } = await readsBeyondMax(fuse, client, 4);
    t.is(waiting, 3);
    await fuse.abort();
    const results = (await reading).map(({ result }) => result);
    t.is(results.length, 4);
    for (const [at, result] of results.entries()) {
      t.regex(String(result), /^(ECONNABORTED|ENOTCONN)$/, `read ${at}`);
    }
    await client.errno.close({ fd });
  },
);

guestTest('all who wait for max_background are told when the connection is aborted', async (t, guest) => {
  const init = { maxBackground: 1, addFlags: ['ASYNC_DIO'] } as const;
  await using fuse = await guest.mountFuse({ passthrough: 'off', init });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: new Uint8Array(READERS * PAGE) });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_DIRECT' });
  const hold = await fuse.hold('READ');
  const reading: Promise<string>[] = [];
  for (let nth = 0; nth < READERS; nth++) {
    const operations = [{ op: 'pread', fd, count: PAGE, offset: nth * PAGE } as const];
    const outcome = client.aio({ operations }).then(
      ([read]) => String(read?.result),
      (error: unknown) => String(error),
    );
    reading.push(outcome);
    if (nth === 0) await hold.arrived();
  }
  t.is(await fuse.untilWaiting(READERS), READERS, 'one request at the server, and callers that wait');
  await fuse.abort();
  t.is(await fuse.untilWaiting(0), 0, 'nobody waits after the abort');
  for (const outcome of await Promise.all(reading)) t.regex(outcome, /ECONNABORTED|ENOTCONN/);
  await client.errno.close({ fd });
});

guestTest('who reads in parts how many requests wait reads one number', async (t, guest) => {
  const init = { maxBackground: 20, addFlags: ['ASYNC_DIO'] } as const;
  await using fuse = await guest.mountFuse({ passthrough: 'off', init });
  await using client = await guest.client();
  await using other = await guest.client();
  const COUNT = 10;
  await client.writeFile({ path: fuse.backing('f'), data: new Uint8Array(COUNT * PAGE) });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_DIRECT' });
  const hold = await fuse.hold('READ');
  const operations = Array.from(
    { length: COUNT },
    (_none, nth) => ({ op: 'pread', fd, count: PAGE, offset: nth * PAGE }) as const,
  );
  const reading = client.aio({ operations });
  reading.catch(() => undefined);
  const held = [];
  for (let nth = 0; nth < COUNT; nth++) held.push(await hold.arrived());
  const waiting = await other.open({ path: control(fuse, 'waiting'), flags: 'O_RDONLY' });
  t.is(text(await other.read({ fd: waiting, count: 1 })), '1', 'of ten the first figure');
  for (const each of held) await hold.release(each);
  await reading;
  t.is(await fuse.untilWaiting(0), 0, 'none waits any more');
  t.is(text(await other.read({ fd: waiting, count: 10 })), '0\n', 'the rest of what the number was');
  t.is(text(await other.read({ fd: waiting, count: 10 })), '', 'its end');
  await other.close({ fd: waiting });
  await client.close({ fd });
});

/** What `max_background` becomes while four requests are at the server: as many, or fewer. */
for (const lowered of [4, 2]) {
  guestTest(
    `with max_background lowered to ${lowered} nobody sends more while so many are under way`,
    async (t, guest) => {
      const init = { maxBackground: 20, addFlags: ['ASYNC_DIO'] } as const;
      await using fuse = await guest.mountFuse({ passthrough: 'off', init });
      await using client = await guest.client();
      await using other = await guest.client();
      const [BEFORE, LATER] = [4, 2];
      await client.writeFile({ path: fuse.backing('f'), data: new Uint8Array((BEFORE + LATER) * PAGE) });
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_DIRECT' });
      const hold = await fuse.hold('READ');
      const read = (from: number, count: number) => {
        const nths = Array.from({ length: count }, (_none, nth) => from + nth);
        const reading = client.aio({
          operations: nths.map((nth) => ({ op: 'pread', fd, count: PAGE, offset: nth * PAGE }) as const),
        });
        reading.catch(() => undefined);
        return reading;
      };
      const reading = [read(0, BEFORE)];
      const held = [];
      for (let nth = 0; nth < BEFORE; nth++) held.push(await hold.arrived());
      t.is(await change(other, control(fuse, 'max_background'), String(lowered)), 'ok');
      reading.push(read(BEFORE, LATER));
      t.is(await fuse.untilWaiting(BEFORE + 1), BEFORE + 1, 'a caller waits with its first request');
      const sent = async (): Promise<number> => {
        // What the kernel sends now comes after every READ that it would send.
        await other.stat({ path: fuse.path });
        return (await fuse.requests('READ')).length;
      };
      t.is(await sent(), BEFORE, 'none answered: what was sent');
      let underWay = BEFORE;
      for (let answered = 1; held.length > 0; answered++) {
        const [next] = held.splice(0, 1);
        if (next === undefined) break;
        await hold.release(next);
        await fuse.waitFor({ opcode: 'READ', after: next.seq - 1 }, 'answered');
        underWay--;
        const full = underWay >= lowered;
        if (!full && answered + underWay < BEFORE + LATER) {
          held.push(await hold.arrived());
          underWay++;
        }
        t.is(await sent(), answered + underWay, `${answered} answered: what was sent`);
        if (!full) continue;
        t.is(
          await fuse.waiting(),
          underWay + 1,
          `${answered} answered: a caller waits with its first request`,
        );
      }
      await hold.stop();
      for (const results of reading) {
        for (const { result } of await results) t.is(result, PAGE);
      }
      await client.close({ fd });
    },
  );
}
