import { concat } from '../lib/bytes.ts';
import { u32 } from '../lib/entry-answer.ts';
import { guestTest } from '../lib/guest-test.ts';

/** Numbers in requests that are often the same by chance: handles of server and kernel, and halves of large offsets. */

const GIB = 2 ** 30;
const KEPT_BY = { 'the server': { addFlags: ['POSIX_LOCKS'] }, 'the kernel': {} } as const;
/** Opens that the server refuses before those that it does not. */
const REFUSED = 3;

guestTest(
  'a lock beyond 4 GiB is asked for, told and given back where it is, by the server as by the kernel (A44)',
  async (t, guest) => {
    await using client = await guest.client();
    await using other = await guest.client();
    for (const [who, init] of Object.entries(KEPT_BY)) {
      await using fuse = await guest.mountFuse({ init });
      await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
      const path = fuse.file('f');
      const [fd, seen] = [
        await client.open({ path, flags: 'O_RDWR' }),
        await other.open({ path, flags: 'O_RDWR' }),
      ];
      const range = { start: 5 * GIB + 3, length: 10 } as const;
      await client.setlk({ fd, type: 'F_WRLCK', ...range });
      const found = await other.getlk({ fd: seen, type: 'F_WRLCK', start: 0, length: 0 });
      const wanted = { type: 'F_WRLCK', ...range, pid: client.pid } as const;
      t.deepEqual(found, wanted, `${who}: the lock in the way`);
      const below = await other.errno.setlk({ fd: seen, type: 'F_WRLCK', start: GIB, length: GIB });
      t.is(below, 'ok', `${who}: 4 GiB further down there is none`);
      const again = { fd: seen, type: 'F_WRLCK', ...range } as const;
      t.is(await other.errno.setlk(again), 'EAGAIN', `${who}: it is not given to another`);
      await client.setlk({ fd, type: 'F_UNLCK', ...range });
      t.is(await other.errno.setlk(again), 'ok', `${who}: it is, once it was given back`);
      await other.close({ fd: seen });
      await client.close({ fd });
    }
  },
);

guestTest(
  'POLL names the handle that the server gave the open, and one of the kernel’s own to be woken by',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    // The kernel counts an open that is refused, and the server does not: later their handles are not the same.
    await fuse.fail('OPEN', 'EACCES', REFUSED);
    const open = { path: fuse.file('f'), flags: 'O_RDONLY' };
    for (let nth = 0; nth < REFUSED; nth++) t.is(await client.errno.open(open), 'EACCES');
    // `fuse_poll_out`: there is something to read.
    const body = concat(u32(1), u32(0));
    await fuse.rule({ match: { opcode: 'POLL' }, action: { do: 'body', body } });
    const handles: (readonly [opened: unknown, polled: unknown, woken: string])[] = [];
    for (const time of ['first', 'second']) {
      const after = await fuse.position();
      const fd = await client.open(open);
      t.is(await client.poll({ fd }), 'in', `the ${time} open`);
      const { reply } = await fuse.waitFor({ opcode: 'OPEN', after });
      const { args } = await fuse.waitFor({ opcode: 'POLL', after });
      handles.push([reply?.open?.fh, args['fh'], String(args['kh'])]);
      await client.close({ fd });
    }
    for (const [opened, polled, woken] of handles) {
      t.is(polled, opened, 'the handle that the server gave');
      t.not(String(polled), woken, 'which is another than that of the kernel here');
    }
    t.not(handles[0]?.[2], handles[1]?.[2], 'each open has one of its own');
  },
);
