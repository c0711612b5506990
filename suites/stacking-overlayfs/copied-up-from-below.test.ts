import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { eventually } from '../lib/eventually.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { lowerOnFuse } from '../lib/overlay-on-fuse.ts';

/** What is copied up of what the server of the lower layer answers meanwhile, and what ends it. */

type Rule = Parameters<FuseMount['rule']>[0];
type Action = Rule['action'];

/** include/uapi/linux/fuse.h. */
const FOPEN_NONSEEKABLE = 1 << 2;
const MIB = 1024 * 1024;
const error = (errno: string): Action => ({ do: 'error', errno });

/** Rules for a copy-up by chmod of a file that has the attribute `trusted.word`, and what chmod gives. */
const ANSWERS: readonly (readonly [what: string, rule: Rule, gives: string])[] = [
  ['no attributes', { match: { opcode: 'LISTXATTR' }, action: error('EOPNOTSUPP') }, 'ok'],
  ['an error for how long the list is', { match: { opcode: 'LISTXATTR' }, action: error('EIO') }, 'EIO'],
  ['an error for the list', { match: { opcode: 'LISTXATTR' }, nth: 2, action: error('EDQUOT') }, 'EDQUOT'],
  ['an error for an attribute', { match: { opcode: 'GETXATTR' }, action: error('EDQUOT') }, 'EDQUOT'],
  [
    'an error for the attributes of a file',
    { match: { opcode: 'GETATTR' }, action: error('EDQUOT') },
    'EDQUOT',
  ],
  ['an error for the data', { match: { opcode: 'READ' }, action: error('EIO') }, 'EIO'],
  ['an error for its flags', { match: { opcode: 'IOCTL' }, action: error('EDQUOT') }, 'EDQUOT'],
  ['flags that are not valid', { match: { opcode: 'IOCTL' }, action: error('EINVAL') }, 'ok'],
  ['no flags', { match: { opcode: 'IOCTL' }, action: error('ENOTTY') }, 'ok'],
  ['an error for where data are', { match: { opcode: 'LSEEK' }, action: error('EIO') }, 'ok'],
];

guestTest(
  'errors of the lower server end a copy-up, but not where it only lacks something',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await lowerOnFuse(guest, client);
    const { overlay, fuse } = stack;
    for (const [at, [what, rule, gives]] of ANSWERS.entries()) {
      const name = `f${at}`;
      await client.writeFile({ path: fuse.backing(name), data: 'from below' });
      await client.setxattr({ path: fuse.backing(name), name: 'trusted.word', data: 'value' });
      await client.stat({ path: overlay.file(name) });
      const permit = await fuse.rule(rule);
      const change = () => client.errno.chmod({ path: overlay.file(name), mode: 0o604 });
      t.is(await change(), gives, what);
      await permit();
      const { mode } = await client.stat({ path: overlay.file(name) });
      t.is(mode & 0o777, gives === 'ok' ? 0o604 : 0o644, `${what}: the mode`);
      if (gives !== 'ok') t.is(await change(), 'ok', `${what}, and then none`);
      t.is(text(await client.readFile({ path: overlay.file(name) })), 'from below', `${what}: the data`);
      const word = await client.errno.getxattr({ path: overlay.file(name), name: 'trusted.word' });
      t.is(word, what === 'no attributes' ? 'ENODATA' : 'ok', `${what}: the attribute`);
    }
  },
);

guestTest('a link whose target the lower server does not tell is not copied up', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await lowerOnFuse(guest, client);
  const { overlay, fuse } = stack;
  await client.symlink({ path: fuse.backing('l'), target: 'f' });
  const move = () => client.errno.rename({ from: overlay.file('l'), to: overlay.file('m') });
  const permit = await fuse.fail('READLINK', 'EDQUOT');
  t.is(await move(), 'EDQUOT');
  t.deepEqual(await client.readdir({ path: overlay.path }), ['f', 'l']);
  await permit();
  t.is(await move(), 'ok');
  t.is(await client.readlink({ path: overlay.file('m') }), 'f');
});

guestTest('of a file that ends in a hole only the data are read and copied', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await lowerOnFuse(guest, client);
  const { overlay, fuse } = stack;
  const size = 3 * MIB;
  await client.truncate({ path: fuse.backing('f'), length: size });
  const after = await fuse.position();
  const end = { do: 'error', errno: 'ENXIO' } as const;
  const fromNow = await fuse.rule({ match: { opcode: 'LSEEK' }, nth: 2, action: end });
  t.is(await client.errno.chmod({ path: overlay.file('f'), mode: 0o600 }), 'ok');
  await fromNow();
  const asked = await fuse.requests({ opcode: ['LSEEK', 'READ'], after });
  const read = asked.filter(({ opcode }) => opcode === 'READ').map(({ args }) => Number(args['offset']));
  t.true(read.length > 0 && Math.max(...read) < 2 * MIB, `READs at ${read.join(', ')}`);
  t.is(asked.filter(({ opcode }) => opcode === 'LSEEK').length, 2, 'asked twice');
  t.is((await client.stat({ path: overlay.file('f') })).size, size, 'the size');
  t.is(text(await client.readFile({ path: overlay.file('f') })).replaceAll('\0', ''), 'from below');
});

/** Of a file of 3 MiB: how much of it is a hole at its beginning, what the server answers, and what it is asked. */
const SOUGHT: readonly (readonly [what: string, hole: number, answer: Action | undefined, at: number[]])[] = [
  ['data alone', 0, undefined, [0, MIB, 2 * MIB]],
  ['a hole first', MIB, undefined, [0, 2 * MIB]],
  ['no answer to where data are', MIB, error('EIO'), [0]],
];

guestTest(
  'where the data of a lower file are is asked for each part of it, and not again after an error',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await lowerOnFuse(guest, client);
    const { overlay, fuse } = stack;
    for (const [nth, [what, hole, answer, at]] of SOUGHT.entries()) {
      const name = `sought${nth}`;
      const data = `${'\0'.repeat(hole)}${'x'.repeat(3 * MIB - hole)}`;
      await client.writeFile({ path: fuse.backing(name), data: '' });
      const fd = await client.open({ path: fuse.backing(name), flags: 'O_WRONLY' });
      await client.pwrite({ fd, data: data.slice(hole), offset: hole });
      await client.close({ fd });
      await client.stat({ path: overlay.file(name) });
      const permit = answer && (await fuse.rule({ match: { opcode: 'LSEEK' }, action: answer }));
      const after = await fuse.position();
      t.is(await client.errno.chmod({ path: overlay.file(name), mode: 0o600 }), 'ok', what);
      await permit?.();
      const asked = await fuse.requests({ opcode: 'LSEEK', after });
      t.deepEqual(
        asked.map(({ args }) => Number(args['offset'])),
        at,
        `${what}: where it is asked`,
      );
      t.true(text(await client.readFile({ path: overlay.file(name) })) === data, `${what}: the data`);
    }
  },
);

guestTest('a lower file that cannot be sought is not copied up, and nothing is left', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await lowerOnFuse(guest, client);
  const { overlay, fuse } = stack;
  const permit = await fuse.answerOpen('OPEN', { openFlags: FOPEN_NONSEEKABLE });
  const after = await fuse.position();
  const change = () => client.errno.chmod({ path: overlay.file('f'), mode: 0o600 });
  t.is(await change(), 'EINVAL');
  t.deepEqual(await fuse.opcodes({ opcode: ['LSEEK', 'READ'], after }), []);
  await permit();
  t.is(await change(), 'ok');
  t.is(text(await client.readFile({ path: overlay.file('f') })), 'from below');
});

guestTest(
  'what is copied up of a file that the server has less of than it said is as long',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await lowerOnFuse(guest, client);
    const { overlay, fuse } = stack;
    for (const [name, body, expected] of [
      ['none', '', ''],
      ['some', 'from', 'from'],
    ] as const) {
      await client.writeFile({ path: fuse.backing(name), data: 'from below' });
      await client.stat({ path: overlay.file(name) });
      const action = { do: 'body', body: new Uint8Array(Buffer.from(body)) } as const;
      const permit = await fuse.rule({ match: { opcode: 'READ' }, action });
      t.is(await client.errno.chmod({ path: overlay.file(name), mode: 0o600 }), 'ok', name);
      await permit();
      const copied = text(await client.readFile({ path: overlay.file(name) }));
      t.is(copied, expected.padEnd(10, '\0'), name);
    }
  },
);

/** The kernel stack of a client whose call waits in a copy-up. */
function waitsIn(guest: TestGuest, client: Client): Promise<string> {
  return eventually(
    () => guest.where(client.pid),
    (stack) => stack.includes('ovl_copy_up'),
  );
}

const open = (by: Client, path: string) => by.errno.open({ path, flags: 'O_RDWR' });

guestTest('who waits for the copy-up of another gets the file that it made', async (t, guest) => {
  await using client = await guest.client();
  await using other = await guest.client();
  await using stack = await lowerOnFuse(guest, client);
  const { overlay, fuse } = stack;
  const after = await fuse.position();
  const held = await fuse.hold('READ');
  const first = open(client, overlay.file('f'));
  const read = await held.arrived();
  const second = open(other, overlay.file('f'));
  t.regex(await waitsIn(guest, other), /ovl_copy_up/);
  await held.stop();
  await held.release(read);
  t.deepEqual([await first, await second], ['ok', 'ok']);
  t.is(text(await client.readFile({ path: overlay.file('f') })), 'from below');
  t.is((await fuse.requests({ opcode: 'LISTXATTR', after })).length, 1, 'it was copied once');
});

guestTest('who is killed while it copies up, or waits for that, leaves nothing of it', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await lowerOnFuse(guest, client);
  const { overlay, fuse, upper } = stack;
  await client.writeFile({ path: fuse.backing('f'), data: 'x'.repeat(2 * MIB) });
  await using killed = await guest.client();
  await using waiter = await guest.client();
  const held = await fuse.hold('READ');
  const first = open(killed, overlay.file('f')).catch(() => 'gone');
  const read = await held.arrived();
  const second = open(waiter, overlay.file('f')).catch(() => 'gone');
  t.regex(await waitsIn(guest, waiter), /ovl_copy_up/);
  await waiter.kill('SIGKILL');
  await waiter.exited();
  await killed.kill('SIGKILL');
  await held.stop();
  await held.release(read);
  await killed.exited();
  t.deepEqual([await first, await second], ['gone', 'gone']);
  t.deepEqual(await client.readdir({ path: upper }), [], 'nothing in the upper layer');
  t.is(await open(client, overlay.file('f')), 'ok');
  t.is((await client.stat({ path: `${upper}/f` })).size, 2 * MIB);
});

guestTest('who is stopped and goes on while it copies up gets its file, and not EINTR', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await lowerOnFuse(guest, client);
  const { overlay, fuse } = stack;
  const fd = await client.open({ path: fuse.backing('f'), flags: 'O_RDWR|O_TRUNC' });
  await client.pwrite({ fd, data: 'behind a hole', offset: MIB });
  await client.close({ fd });
  await using stopped = await guest.client();
  const held = await fuse.hold('LSEEK');
  const opened = open(stopped, overlay.file('f'));
  const asked = await held.arrived();
  const after = await fuse.position();
  await guest.run(['sh', '-c', `kill -STOP ${stopped.pid}`]);
  await held.stop();
  await held.release(asked);
  // It closes the lower file before it stops, whatever has become of the copy.
  await fuse.waitFor({ opcode: 'RELEASE', after });
  await guest.run(['sh', '-c', `kill -CONT ${stopped.pid}`]);
  t.is(await opened, 'ok', 'the open that copies it up');
  const copy = await client.open({ path: overlay.file('f'), flags: 'O_RDONLY' });
  t.is(text(await client.pread({ fd: copy, count: 100, offset: MIB })), 'behind a hole', 'its data');
  await client.close({ fd: copy });
});
