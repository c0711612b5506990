import { text } from './bytes.ts';
import type { Client } from './client.ts';

/** By which driver the kernel computes AES, as /proc/crypto has it: a cipher by another name. */
export async function driverOfAes(client: Client): Promise<string | undefined> {
  const ciphers = text(await client.readFile({ path: '/proc/crypto' })).split('\n\n');
  const field = (cipher: string, name: string) =>
    cipher
      .split('\n')
      .find((line) => line.startsWith(name))
      ?.split(': ')[1];
  const aes = ciphers.find((each) => field(each, 'name') === 'aes' && field(each, 'type') === 'cipher');
  return aes === undefined ? undefined : field(aes, 'driver');
}
