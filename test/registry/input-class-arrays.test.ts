import 'reflect-metadata';
import { describe, expect, it } from '@jest/globals';
import { ArrayNotEmpty, IsInt, IsString } from 'class-validator';
import { parametersOf } from '../../src/registry/definition-from-class.js';

class Shelf {
  @IsString({ each: true })
  @ArrayNotEmpty()
  files!: string[];

  @IsInt({ each: true })
  sizes!: Set<number>;
}

describe('parametersOf', () => {
  it('does not take the type of the elements for the type of the parameter', () => {
    expect(parametersOf('shelve', Shelf)).toEqual([
      { name: 'files', type: 'array', required: true },
      { name: 'sizes', type: 'any', required: true },
    ]);
  });
});
