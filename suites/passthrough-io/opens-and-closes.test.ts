import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import { openFlagNames } from '../lib/open-flag-names.ts';
import { mountWithModes, openAs, register } from '../lib/open-modes.ts';
import { whereItWaits } from '../lib/where-it-waits.ts';

/** What the server is told of an open, and whether an open or a close waits for what the server says of its end. */

const PAGE = 4096;
/** Where a thread stands that waits for an answer. */
const WAITS_FOR_AN_ANSWER = /request_wait_answer/;
/** Where a thread stands that may not send a request yet. */
const MAY_NOT_SEND = /fuse_get_req|fuse_simple_background/;

guestTest(
  'OPEN and OPENDIR have all flags of an open but O_TRUNC, where the server does not truncate (A30)',
  async (t, guest) => {
    const init = { dropFlags: ['ATOMIC_O_TRUNC'] } as const;
    for (const passthrough of ['auto', 'off'] as const) {
      await using fuse = await guest.mountFuse({ passthrough, init });
      await using client = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
      await client.mkdir({ path: fuse.backing('d') });
      for (const [name, opcode, flags] of [
        ['f', 'OPEN', 'O_WRONLY|O_APPEND|O_NONBLOCK|O_NOATIME'],
        ['f', 'OPEN', 'O_RDONLY|O_SYNC'],
        ['d', 'OPENDIR', 'O_RDONLY|O_NONBLOCK|O_DIRECTORY|O_NOATIME'],
      ] as const) {
        const truncates = flags.startsWith('O_WRONLY') ? '|O_TRUNC' : '';
        const after = await fuse.position();
        await client.close({
          fd: await client.open({ path: fuse.file(name), flags: `${flags}${truncates}` }),
        });
        const { args } = await fuse.waitFor({ opcode, after });
        t.is(openFlagNames(args['flags']), flags, `${opcode}, passthrough ${passthrough}`);
      }
    }
  },
);

guestTest(
  'an open that the kernel refuses fails when the server has answered its RELEASE, and not before (C15)',
  async (t, guest) => {
    await using fuse = await mountWithModes(guest);
    await using client = await guest.client();
    await using other = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const id = await register(fuse, 'f');
    const fd = await openAs(client, fuse, { name: 'f', mode: 'passthrough', id });
    const hold = await fuse.hold('RELEASE');
    const opening = openAs(other, fuse, { name: 'f', mode: 'cached' });
    opening.catch(() => undefined);
    const release = await hold.arrived();
    const where = await whereItWaits(guest, other, { call: opening, at: WAITS_FOR_AN_ANSWER });
    t.regex(where, WAITS_FOR_AN_ANSWER, 'RELEASE is not answered, and the open waits');
    await hold.stop();
    await hold.release(release);
    await t.throwsAsync(opening, { message: /EIO/ }, 'RELEASE is answered, and the open fails');
    t.is(text(await client.pread({ fd, count: 8, offset: 0 })), 'contents');
    await client.close({ fd });
  },
);

guestTest('a close does not wait for the answer to RELEASE, nor for that to RELEASEDIR', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  await client.mkdir({ path: fuse.backing('d') });
  for (const [name, opcode, flags] of [
    ['f', 'RELEASE', 'O_RDONLY'],
    ['d', 'RELEASEDIR', 'O_RDONLY|O_DIRECTORY'],
  ] as const) {
    const fd = await client.open({ path: fuse.file(name), flags });
    const hold = await fuse.hold(opcode);
    const closing = client.close({ fd });
    closing.catch(() => undefined);
    const release = await hold.arrived();
    const where = await whereItWaits(guest, client, { call: closing, at: WAITS_FOR_AN_ANSWER });
    t.is(where, 'done', `${opcode} is not answered, and the close is done`);
    await hold.stop();
    await hold.release(release);
    await closing;
  }
});

/** A direct read that goes by a request of its own in the background, so that it counts. */
async function readOnePage(client: Client, fd: number): Promise<unknown> {
  return client.aio({ operations: [{ op: 'pread', fd, count: PAGE, offset: 0 }] });
}

guestTest(
  'a close is done while max_background requests are under way, and RELEASE is sent after one of them',
  async (t, guest) => {
    const init = { maxBackground: 1, addFlags: ['ASYNC_DIO'] } as const;
    await using fuse = await guest.mountFuse({ passthrough: 'off', init });
    await using client = await guest.client();
    await using other = await guest.client();
    for (const name of ['busy', 'f']) {
      await client.writeFile({ path: fuse.backing(name), data: new Uint8Array(PAGE) });
    }
    const busy = await client.open({ path: fuse.file('busy'), flags: 'O_RDONLY|O_DIRECT' });
    const fd = await other.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    const hold = await fuse.hold('READ');
    const reading = readOnePage(client, busy);
    reading.catch(() => undefined);
    const read = await hold.arrived();
    const after = await fuse.position();
    const closing = other.close({ fd });
    closing.catch(() => undefined);
    const where = await whereItWaits(guest, other, { call: closing, at: MAY_NOT_SEND });
    t.is(where, 'done', 'the close does not wait until its RELEASE may be sent');
    t.deepEqual(await fuse.opcodes({ opcode: 'RELEASE', after }), [], 'which waits itself');
    await hold.stop();
    await hold.release(read);
    await reading;
    await closing;
    t.is((await fuse.waitFor({ opcode: 'RELEASE', after })).path, '/f', 'and is sent then');
    await client.close({ fd: busy });
  },
);
