import type { Client } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';

/** What is said of POSIX locks, by the server that keeps them (POSIX_LOCKS) or by the kernel. */

const KEPT_BY = {
  'the server': { addFlags: ['POSIX_LOCKS'] },
  'the kernel': {},
} as const;
/** Every conflict there is: what one has, and what the other wants. */
const CONFLICTS = [
  ['F_RDLCK', 'F_WRLCK'],
  ['F_WRLCK', 'F_RDLCK'],
  ['F_WRLCK', 'F_WRLCK'],
] as const;

async function open(client: Client, fuse: FuseMount): Promise<number> {
  return client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
}

for (const [who, init] of Object.entries(KEPT_BY)) {
  guestTest(`a lock kept by ${who} is told as it is: what, where and whose`, async (t, guest) => {
    await using fuse = await guest.mountFuse({ init });
    await using client = await guest.client();
    await using other = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const [fd, fdOfOther] = [await open(client, fuse), await open(other, fuse)];
    for (const [has, wants] of CONFLICTS) {
      await client.setlk({ fd, type: has, start: 3, length: 4 });
      const what = `${wants} against ${has}`;
      const seen = await other.getlk({ fd: fdOfOther, type: wants, start: 0, length: 0 });
      t.deepEqual(seen, { type: has, start: 3, length: 4, pid: client.pid }, what);
      const free = await other.getlk({ fd: fdOfOther, type: wants, start: 7, length: 0 });
      t.is(free.type, 'F_UNLCK', `${what}, behind it`);
      t.is(
        await other.errno.setlk({ fd: fdOfOther, type: wants, start: 6, length: 1 }),
        'EAGAIN',
        `${what}: it is not given`,
      );
      await client.setlk({ fd, type: 'F_UNLCK', start: 0, length: 0 });
    }
    const asked = (await fuse.requests({ opcode: ['GETLK', 'SETLK'] })).length > 0;
    t.is(asked, who === 'the server', 'the server is asked');
    await other.close({ fd: fdOfOther });
    await client.close({ fd });
  });
}

guestTest(
  'what the server answers instead of telling of a lock is what the caller gets',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ init: KEPT_BY['the server'] });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const fd = await open(client, fuse);
    for (const errno of ['ENOLCK', 'EIO']) {
      await fuse.fail({ opcode: ['GETLK', 'SETLK'] }, errno, 2);
      t.is(await client.errno.getlk({ fd, type: 'F_WRLCK', start: 0, length: 1 }), errno, 'F_GETLK');
      t.is(await client.errno.setlk({ fd, type: 'F_WRLCK', start: 0, length: 1 }), errno, 'F_SETLK');
    }
    t.is((await client.getlk({ fd, type: 'F_WRLCK', start: 0, length: 1 })).type, 'F_UNLCK', 'the next time');
    await client.close({ fd });
  },
);

guestTest('who waits for a lock waits on after a signal that needs no handler', async (t, guest) => {
  await using fuse = await guest.mountFuse({ init: KEPT_BY['the server'] });
  await using client = await guest.client();
  await using other = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const [fd, fdOfOther] = [await open(client, fuse), await open(other, fuse)];
  await client.setlk({ fd, type: 'F_WRLCK', start: 0, length: 1 });
  const waiting = other.setlk({ fd: fdOfOther, type: 'F_WRLCK', start: 0, length: 1, wait: true });
  waiting.catch(() => undefined);
  const first = await fuse.waitFor('SETLKW', 'arrived');
  const stopped = other.kill('SIGSTOP');
  const { reply } = await fuse.waitFor('SETLKW');
  t.is(reply?.error, 'EINTR', 'the server gives the wait up');
  await stopped;
  await other.kill('SIGCONT');
  await fuse.waitFor({ opcode: 'SETLKW', after: first.seq }, 'arrived');
  await client.setlk({ fd, type: 'F_UNLCK', start: 0, length: 1 });
  t.is(await waiting, 0, 'asked for again, and given');
  await other.close({ fd: fdOfOther });
  await client.close({ fd });
});

guestTest(
  'a lock is asked for by a process with a number, and given back without one (A44)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ init: KEPT_BY['the server'] });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const fd = await open(client, fuse);
    for (const type of ['F_RDLCK', 'F_WRLCK', 'F_UNLCK'] as const) {
      await client.setlk({ fd, type, start: 0, length: 8 });
    }
    const asked = await fuse.requests('SETLK');
    t.deepEqual(
      asked.map(({ args }) => args['pid']),
      [client.pid, client.pid, 0],
      'F_RDLCK, F_WRLCK, F_UNLCK',
    );
    t.is(new Set(asked.map(({ args }) => args['owner'])).size, 1, 'the owner is the same');
    await client.close({ fd });
  },
);

guestTest(
  'who asks whether a lock is free names its owner and no process, having none yet (A44)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ init: KEPT_BY['the server'] });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const fd = await open(client, fuse);
    for (const type of ['F_RDLCK', 'F_WRLCK'] as const) {
      const after = await fuse.position();
      t.is((await client.getlk({ fd, type, start: 0, length: 8 })).type, 'F_UNLCK', type);
      await client.setlk({ fd, type, start: 0, length: 8 });
      const [asks, takes] = await fuse.requests({ opcode: ['GETLK', 'SETLK'], after });
      t.is(asks?.args['pid'], 0, `${type}: GETLK names no process`);
      t.is(takes?.args['pid'], client.pid, `${type}: SETLK does`);
      t.is(asks?.args['owner'], takes?.args['owner'], `${type}: the owner is the same`);
    }
    await client.close({ fd });
  },
);
