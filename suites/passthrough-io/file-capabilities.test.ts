import { concat, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { u32 } from '../lib/entry-answer.ts';
import { CAPABILITY, MAY_USE_RAW_SOCKETS } from '../lib/file-capabilities.ts';
import type { Rule } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';

/** Capabilities of a program, which a write takes away: the kernel asks the server whether there are any. */

/** `fuse_getxattr_out`: u32 size, u32 padding. */
function sizeAnswer(bytes: number): Rule['action'] {
  return { do: 'body', body: concat(u32(bytes), u32(0)) };
}

/** What the server says that the attribute takes, and whether it has to be removed. */
const ANSWERS: readonly (readonly [what: string, answer: Rule['action'], removes: boolean])[] = [
  ['the truth', { do: 'normal' }, true],
  ['more than there can be', sizeAnswer(0xffff_ffff), true],
  ['nothing', sizeAnswer(0), false],
  ['ENODATA', { do: 'error', errno: 'ENODATA' }, false],
];

async function program(client: Client, path: string): Promise<void> {
  await client.writeFile({ path, data: 'program' });
  await client.setxattr({ path, name: CAPABILITY, data: MAY_USE_RAW_SOCKETS });
}

for (const passthrough of ['auto', 'off'] as const) {
  const how = passthrough === 'auto' ? 'past the server' : 'to the server';
  guestTest(
    `who writes ${how} has it take the capabilities of the program away before, root included (A42)`,
    async (t, guest) => {
      const looks = passthrough === 'off' || guest.expected.removesPrivileges;
      guest.needs(looks, 'look at capabilities of FUSE files in passthrough writes');
      for (const [what, action, removes] of ANSWERS) {
        await using fuse = await guest.mountFuse({ passthrough });
        await using client = await guest.client();
        await program(client, fuse.backing('f'));
        const fd = await client.open({ path: fuse.file('f'), flags: 'O_WRONLY' });
        await fuse.rule({ match: { opcode: 'GETXATTR' }, action });
        const takeBack = await fuse.fail('REMOVEXATTR', 'EROFS');
        const write = (): Promise<string> => client.errno.pwrite({ fd, data: 'written', offset: 0 });
        if (removes) {
          t.is(await write(), 'EROFS', `the server says ${what}, and does not remove them`);
          t.is(text(await client.readFile({ path: fuse.backing('f') })), 'program', `${what}: as it was`);
        }
        await takeBack();
        const after = await fuse.position();
        t.is(await write(), 'ok', `the server says ${what}`);
        const removed = await fuse.requests({ opcode: 'REMOVEXATTR', after });
        t.deepEqual(
          removed.map(({ args }) => args['name']),
          removes ? [CAPABILITY] : [],
          `${what}: what the server is to remove`,
        );
        await client.close({ fd });
        if (passthrough === 'auto') t.deepEqual(await fuse.dataRequests(), []);
      }
    },
  );
}
